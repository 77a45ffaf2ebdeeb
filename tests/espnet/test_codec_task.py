"""The token decoder as a real ESPnet training."""

import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml

pytestmark = pytest.mark.slow

MODULE = "uas_plugin.bin.codec_train"
CONFIG = {
    "seed": 7,
    "ngpu": 0,
    "num_workers": 0,
    "max_epoch": 2,
    "num_iters_per_epoch": 3,
    "keep_nbest_models": 2,
    "use_matplotlib": False,
    "optim": "adamw",
    "optim_conf": {"lr": 1.0e-3},
    "model_conf": {
        "encoder": {"channels": 16, "blocks": 1, "kernel_size": 3},
        "estimator": {"channels": 16, "blocks": 2, "time_channels": 16, "dilations": [1, 2]},
        "cfm": {"prior_weight": 1.0},
    },
    "batch_conf": {"size": 4, "crop": 0.3, "valid_crops": 5},
}


@pytest.fixture(scope="module")
def dump(corpus, tmp_path_factory):
    """The corpus as the token dump leaves it, with 16 codes."""
    from lhotse import NumpyHdf5Writer

    from uas_plugin.atomic import write_json
    from uas_plugin.data.manifests import load_cuts, save_cuts

    folder = tmp_path_factory.mktemp("dump")
    cuts, generator = [], np.random.default_rng(0)
    with NumpyHdf5Writer(folder / "tokens.h5") as writer:
        for cut in load_cuts(corpus / "cuts.jsonl.gz"):
            ids = generator.integers(0, 16, round(cut.duration * 25)).astype(np.int16)
            cut.tokens = writer.store_array(
                cut.id, ids, frame_shift=0.04, temporal_dim=0, start=0.0
            )
            cuts.append(cut)
    save_cuts(cuts, folder / "cuts.jsonl.gz")
    write_json(folder / "info.json", {"codebook_size": 16, "frame_rate": 25.0, "sha256": "x"})
    return folder


def arguments(dump, folder, **changes):
    config = folder / "train.yaml"
    config.write_text(yaml.safe_dump({**CONFIG, **changes}))
    cuts = dump / "cuts.jsonl.gz"
    return [
        *("--config", config, "--train_cuts", cuts, "--valid_cuts", cuts),
        *("--output_dir", folder / "exp", "--resume", "true"),
    ]


def weights(folder):
    return torch.load(folder / "exp" / "valid.loss.ave.pth", weights_only=True)


@pytest.fixture(scope="module")
def trained(dump, run_module, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    run_module(MODULE, *arguments(dump, folder))
    return folder


def test_training_records_the_tokenizers_numbers_and_moves_the_weights(trained):
    saved = yaml.safe_load((trained / "exp" / "config.yaml").read_text())
    assert saved["model_conf"]["vocab_size"] == 16
    assert saved["model_conf"]["frame_rate"] == 25.0
    final = weights(trained)
    assert final["model.decoder.estimator.final_proj.weight"].abs().sum() > 0
    assert final["model.mel_std"].min() > 0


def test_stopping_and_resuming_gives_the_same_weights(trained, dump, run_module, tmp_path):
    run_module(MODULE, *arguments(dump, tmp_path, max_epoch=1))
    (tmp_path / "exp" / "features" / "train" / "info.json").unlink()
    run_module(MODULE, *arguments(dump, tmp_path))
    expected, got = weights(trained), weights(tmp_path)
    different = [key for key in expected if not torch.equal(expected[key], got[key])]
    assert different == []


def test_trained_decoder_is_exported_without_espnet(trained, tmp_path):
    from uas_plugin.codec.api import load_codec

    export = f"export_codec({str(trained / 'exp')!r}, {str(tmp_path / 'export')!r})"
    code = f"import sys; from uas_plugin.codec.export import export_codec; {export}"
    code += "; sys.exit(any(name.startswith('espnet') for name in sys.modules))"
    subprocess.run([sys.executable, "-c", code], check=True)
    wav, rate = load_codec(tmp_path / "export").decode([3, 1, 4, 1, 5], n_steps=2)
    assert rate == 22050
    assert wav.shape == (17 * 256,)
    assert (tmp_path / "export" / "stats.safetensors").exists()


def test_two_processes(dump, run_module, tmp_path):
    run_module(
        *("--nproc_per_node", "2", "--standalone", "-m", MODULE),
        *arguments(dump, tmp_path),
        *("--multiprocessing_distributed", "false", "--dist_backend", "gloo"),
        launcher=("-m", "torch.distributed.run"),
    )
    assert all(torch.isfinite(value).all() for value in weights(tmp_path).values())


def test_an_unknown_model_setting_is_one_line(dump, run_module, tmp_path):
    conf = {**CONFIG["model_conf"], "estimater": {}}
    done = run_module(MODULE, *arguments(dump, tmp_path, model_conf=conf), check=False)
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error:")
    assert "'estimator'" in last
