"""The tokenizer as a real ESPnet training."""

import subprocess
import sys

import pytest
import torch
import yaml

pytestmark = pytest.mark.slow

CONFIG = {
    "seed": 7,
    "ngpu": 0,
    "num_workers": 0,
    "max_epoch": 2,
    "num_iters_per_epoch": 3,
    "keep_nbest_models": 2,
    "log_interval": 1,
    "optim": "adamw",
    "optim_conf": {"lr": 1.0e-3},
    "scheduler": "cosineannealingwarmuprestarts",
    "scheduler_conf": {"max_lr": 1.0e-3, "min_lr": 1.0e-5, "warmup_steps": 2},
    "model_conf": {
        "d_model": 16,
        "encoder_layers": 3,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "decoder_layers": 1,
        "decoder_attention_heads": 2,
        "decoder_ffn_dim": 32,
        "max_target_positions": 96,
        "quantize_position": 2,
        "quantize_vocab_size": 16,
        "quantize_restart_interval": 2,
        "quantize_restart_threshold": 0.1,
        "encoder_residual_source_position": 1,
        "encoder_residual_target_position": 2,
        "ctc_weight": 0.3,
        "class_weight": 0.3,
        "class_fields": ["gender", "emotion", "sound"],
        "spec_augment": {
            "freq_mask_width_range": [0, 8],
            "time_mask_width_ratio_range": [0.0, 0.05],
        },
    },
    "batch_conf": {"max_duration": 3.0, "num_buckets": 2},
}
MODULE = "uas_plugin.bin.tokenizer_train"


def arguments(corpus, folder, **changes):
    config = folder / "train.yaml"
    config.write_text(yaml.safe_dump({**CONFIG, **changes}))
    cuts = corpus / "cuts.jsonl.gz"
    return [
        *("--config", config, "--train_cuts", cuts, "--valid_cuts", cuts),
        *("--text_model", corpus / "bpe.model", "--output_dir", folder / "exp"),
    ]


def weights(folder, name="valid.loss.ave.pth"):
    return torch.load(folder / "exp" / name, weights_only=True)


@pytest.fixture(scope="module")
def trained(corpus, run_module, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    run_module(MODULE, *arguments(corpus, folder), "--resume", "true")
    return folder


def test_training_leaves_what_espnet_leaves(trained):
    names = {path.name for path in (trained / "exp").iterdir()}
    assert {
        "config.yaml",
        "checkpoint.pth",
        "valid.loss.best.pth",
        "valid.loss.ave.pth",
        "tensorboard",
        "images",
    } <= names
    assert (trained / "exp" / "images" / "loss.png").stat().st_size > 0
    saved = yaml.safe_load((trained / "exp" / "config.yaml").read_text())
    assert saved["model_conf"]["class_labels"]["gender"] == ["Female", "Male"]
    assert "emotion" not in saved["model_conf"]["class_labels"]  # one label: nothing to learn
    assert saved["scheduler_conf"]["first_cycle_steps"] == 6


def test_stopping_and_resuming_gives_the_same_weights(trained, corpus, run_module, tmp_path):
    # The schedule spans both epochs, although the first call stops after one.
    changes = {"scheduler_conf": {**CONFIG["scheduler_conf"], "first_cycle_steps": 6}}
    run_module(MODULE, *arguments(corpus, tmp_path, max_epoch=1, **changes), "--resume", "true")
    # As if killed between the checkpoint and the weights of the epoch.
    (tmp_path / "exp" / "1epoch.pth").unlink()
    run_module(MODULE, *arguments(corpus, tmp_path, **changes), "--resume", "true")
    expected, got = weights(trained), weights(tmp_path)
    assert expected.keys() == got.keys()
    different = [key for key in expected if not torch.equal(expected[key], got[key])]
    assert different == []


def test_trained_model_is_rebuilt_without_espnet(trained, corpus, tmp_path):
    from uas_plugin.tokenizer.api import load_tokenizer
    from uas_plugin.tokenizer.build import load_trained
    from uas_plugin.tokenizer.export import export

    export(trained / "exp", tmp_path / "export")
    path = str(corpus / "clip00.flac")
    a, b = (
        load_tokenizer(trained / "exp").encode([path]),
        load_tokenizer(tmp_path / "export").encode([path]),
    )
    assert (a[0] == b[0]).all() and len(a[0]) == 13
    model, _text, _options = load_trained(trained / "exp")
    assert torch.equal(
        model.encoder.codebook.weight, weights(trained)["model.encoder.codebook.weight"]
    )
    # In a process of its own: other tests of this one may have imported ESPnet.
    code = (
        "import sys; from uas_plugin.tokenizer.build import load_trained; "
        "load_trained(sys.argv[1]); sys.exit('espnet2.tasks.abs_task' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(trained / "exp")], check=True)


def test_collect_stats(corpus, run_module, tmp_path):
    run_module(MODULE, *arguments(corpus, tmp_path), "--collect_stats", "true")
    shapes = (tmp_path / "exp" / "train" / "features_shape").read_text().splitlines()
    assert len(shapes) == 12
    assert sorted(shapes)[0] == "clip00 50,80"
    assert (tmp_path / "exp" / "train" / "feats_stats.npz").exists()


def test_print_config_shows_the_options(run_module):
    done = run_module(MODULE, "--print_config")
    options = yaml.safe_load(done.stdout)
    assert {"train_cuts", "text_model", "model_conf", "batch_conf", "max_epoch"} <= options.keys()


def test_two_processes(corpus, run_module, tmp_path):
    run_module(
        *("--nproc_per_node", "2", "--standalone", "-m", MODULE),
        *arguments(corpus, tmp_path),
        *("--multiprocessing_distributed", "false", "--dist_backend", "gloo"),
        launcher=("-m", "torch.distributed.run"),
    )
    saved = weights(tmp_path)
    assert all(torch.isfinite(value).all() for value in saved.values() if value.is_floating_point())


def test_an_unknown_model_setting_is_one_line(corpus, run_module, tmp_path):
    conf = {**CONFIG["model_conf"], "quantise_position": 2}
    done = run_module(MODULE, *arguments(corpus, tmp_path, model_conf=conf), check=False)
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error:") and "quantize_position" in last


# --- StableToken, and what the papers' trainings need -------------------------------------------

STABLE = {
    "model_conf": {
        **{k: v for k, v in CONFIG["model_conf"].items() if "residual" not in k},
        "quantizer_type": "lfq",
        "pooling_position": 2,
        "num_voters": 3,
        "num_clean_input": 2,
        "consensus_scaling": "paper",
        "gradient_checkpointing": True,
        "autocast": "bfloat16",
        "spec_augment": None,
    },
    "batch_conf": {
        **CONFIG["batch_conf"],
        "tasks": {"uas": 1.0, "asr": 1.0, "emotion": 0.5},
        "noisy_views": True,
    },
    "optim_groups": [
        {"match": "encoder", "lr": 1.0e-4, "min_lr": 1.0e-5},
        {"match": "", "lr": 1.0e-3, "min_lr": 1.0e-4},
    ],
    "scheduler": "warmupcosine",
    "scheduler_conf": {"warmup_steps": 2, "total_steps": 6},
    "freeze_param": ["model.encoder.conv1"],
}


def test_stabletoken_trains_and_resumes_exactly(corpus, run_module, tmp_path):
    cuts = str(corpus / "cuts.jsonl.gz")
    mixed = {"train_cuts": [{"cuts": cuts, "weight": 3}, {"cuts": cuts}]}
    changes = {**STABLE, "batch_conf": {**STABLE["batch_conf"], "noise_cuts": cuts}}
    folders = [tmp_path / "whole", tmp_path / "stopped"]
    for folder in folders:
        folder.mkdir()

    def options(folder, **more):
        given = arguments(corpus, folder, **{**changes, **mixed, **more})
        at = given.index("--train_cuts")
        return given[:at] + given[at + 2 :]  # the list stands in the configuration

    run_module(MODULE, *options(folders[0]), "--resume", "true")
    run_module(MODULE, *options(folders[1], max_epoch=1), "--resume", "true")
    run_module(MODULE, *options(folders[1]), "--resume", "true")
    expected, got = map(weights, folders)
    assert [key for key in expected if not torch.equal(expected[key], got[key])] == []
    epochs = [weights(folders[0], f"{epoch}epoch.pth") for epoch in (1, 2)]
    kept = {key for key in epochs[0] if torch.equal(epochs[0][key], epochs[1][key])}
    assert "model.encoder.conv1.weight" in kept and "model.encoder.conv2.weight" not in kept

    checkpoint = torch.load(folders[0] / "exp" / "checkpoint.pth", weights_only=False)
    first, second = checkpoint["optimizers"][0]["param_groups"]
    assert first["lr"] == pytest.approx(1.0e-5) and second["lr"] == pytest.approx(1.0e-4)
    reported = checkpoint["reporter"]["stats"][2]["train"]
    for name in ("loss_consensus", "loss_entropy", "loss_commit", "codebook_usage", "acc_gender"):
        assert name in reported
