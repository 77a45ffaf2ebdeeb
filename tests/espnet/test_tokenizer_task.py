"""The tokenizer as a real ESPnet training."""

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
    import sys

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
    assert "espnet2.tasks.abs_task" not in sys.modules


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
