"""The vocoder as a real ESPnet training against discriminators."""

import pytest
import torch
import yaml

pytestmark = pytest.mark.slow

MODULE = "uas_plugin.bin.vocoder_train"
DISCRIMINATORS = {
    "scales": 1,
    "follow_official_norm": False,
    "scale_discriminator_params": {
        "channels": 4,
        "max_downsample_channels": 8,
        "max_groups": 4,
        "downsample_scales": [4, 4],
    },
    "periods": [2, 3],
    "period_discriminator_params": {
        "channels": 4,
        "max_downsample_channels": 8,
        "downsample_scales": [3, 3],
    },
}
HIFT = {
    "base_channels": 16,
    "f0_channels": 16,
    "resblock_kernel_sizes": [3],
    "resblock_dilation_sizes": [[1, 3]],
    "source_resblock_kernel_sizes": [3, 3],
    "source_resblock_dilation_sizes": [[1], [1]],
}
SCHEDULE = {"max_lr": 1.0e-3, "min_lr": 1.0e-4, "warmup_steps": 1, "first_cycle_steps": 6}
CONFIG = {
    "seed": 7,
    "ngpu": 0,
    "num_workers": 0,
    "max_epoch": 2,
    "num_iters_per_epoch": 3,
    "keep_nbest_models": 1,
    "use_matplotlib": False,
    "optim": "adamw",
    "optim_conf": {"lr": 1.0e-3},
    "scheduler": "cosineannealingwarmuprestarts",
    "scheduler_conf": SCHEDULE,
    "optim2": "adamw",
    "optim2_conf": {"lr": 1.0e-3},
    "grad_clip": 1.0e4,
    "model_conf": {"hift": HIFT, "discriminator_conf": DISCRIMINATORS},
    "batch_conf": {"size": 4, "segment": 16, "valid_segments": 5},
}


def arguments(corpus, folder, **changes):
    config = folder / "train.yaml"
    config.write_text(yaml.safe_dump({**CONFIG, **changes}))
    cuts = corpus / "cuts.jsonl.gz"
    return [
        *("--config", config, "--train_cuts", cuts, "--valid_cuts", cuts),
        *("--output_dir", folder / "exp", "--resume", "true"),
    ]


def weights(folder, name="2epoch.pth"):
    return torch.load(folder / "exp" / name, weights_only=True)


@pytest.fixture(scope="module")
def trained(corpus, run_module, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    run_module(MODULE, *arguments(corpus, folder))
    return folder


def test_both_networks_move_and_the_best_by_mel_distance_is_kept(trained):
    first = torch.load(trained / "exp" / "checkpoint.pth", weights_only=False)
    assert len(first["optimizers"]) == 2
    stats = first["reporter"]["stats"]
    names = {"adversarial", "feature_matching", "mel", "f0", "discriminator_real"}
    assert names <= stats[2]["train"].keys()
    assert "mel_l1" in stats[2]["valid"]
    assert (trained / "exp" / "valid.mel_l1.ave.pth").exists()
    states = [entry["state"] for entry in first["optimizers"]]
    assert all(int(state[0]["step"]) == 6 for state in states)


def test_stopping_and_resuming_gives_the_same_weights(trained, corpus, run_module, tmp_path):
    run_module(MODULE, *arguments(corpus, tmp_path, max_epoch=1))
    # As if killed between the checkpoint and the weights of the epoch.
    (tmp_path / "exp" / "1epoch.pth").unlink()
    run_module(MODULE, *arguments(corpus, tmp_path))
    expected, got = weights(trained), weights(tmp_path)
    different = [key for key in expected if not torch.equal(expected[key], got[key])]
    assert different == []


def test_trained_vocoder_is_exported_without_espnet(trained, tmp_path):
    import sys

    from uas_plugin.codec.api import load_codec
    from uas_plugin.codec.config import decoder_config
    from uas_plugin.codec.decoder import TokenToMel
    from uas_plugin.codec.export import load_trained_vocoder, save_codec
    from uas_plugin.codec.mel import MelConfig
    from uas_plugin.codec.vocoder import HiFT

    vocoder = load_trained_vocoder(trained / "exp", MelConfig())
    small = {"channels": 16, "blocks": 1}
    values = {"vocab_size": 16, "frame_rate": 25.0, "encoder": small, "estimator": small}
    save_codec(TokenToMel(decoder_config(values)), tmp_path / "export", vocoder=vocoder)
    codec = load_codec(tmp_path / "export")
    assert isinstance(codec.vocoder, HiFT)
    mel = torch.randn(20, 80)
    assert torch.equal(codec.vocoder([mel])[0], vocoder([mel])[0])
    assert not any("parametrizations" in key for key in codec.vocoder.network.state_dict())
    # Folding the norms leaves the weights that were trained.
    state = weights(trained, "valid.mel_l1.ave.pth")
    norm, direction = (
        state[f"generator.pre_conv.parametrizations.weight.original{i}"] for i in (0, 1)
    )
    expected = norm * direction / direction.norm(dim=(1, 2), keepdim=True)
    assert torch.allclose(codec.vocoder.network.pre_conv.weight, expected, atol=1e-6)
    assert "espnet2.tasks.abs_task" not in sys.modules


def test_a_vocoder_of_another_grid_is_refused(trained):
    from uas_plugin.codec.export import load_trained_vocoder
    from uas_plugin.codec.mel import MelConfig
    from uas_plugin.errors import UASError

    with pytest.raises(UASError, match=r"fmax=8000.0.*the decoder makes.*fmax=7600.0"):
        load_trained_vocoder(trained / "exp", MelConfig(fmax=7600.0))


def test_collect_stats(corpus, run_module, tmp_path):
    run_module(MODULE, *arguments(corpus, tmp_path), "--collect_stats", "true")
    shapes = (tmp_path / "exp" / "valid" / "wav_shape").read_text().splitlines()
    assert len(shapes) == 5
    assert shapes[0].endswith(f" {16 * 256}")
    assert (tmp_path / "exp" / "train" / "mel_stats.npz").exists()


def test_print_config_shows_the_options(run_module):
    options = yaml.safe_load(run_module(MODULE, "--print_config").stdout)
    assert {"train_cuts", "model_conf", "batch_conf", "optim2", "scheduler2"} <= options.keys()
    assert options["generator_first"] is True
    assert options["unused_parameters"] is True


def test_two_processes(corpus, run_module, tmp_path):
    run_module(
        *("--nproc_per_node", "2", "--standalone", "-m", MODULE),
        *arguments(corpus, tmp_path),
        *("--multiprocessing_distributed", "false", "--dist_backend", "gloo"),
        launcher=("-m", "torch.distributed.run"),
    )
    one, two = weights(tmp_path, "1epoch.pth"), weights(tmp_path)
    assert all(torch.isfinite(value).all() for value in two.values())
    for name in ("generator.post_conv.bias", "discriminator.mpd.discriminators.0.output_conv.bias"):
        assert not torch.equal(one[name], two[name])


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({"model_conf": {"hitf": {}}}, "'hift'"),
        ({"model_conf": {"hift": {"base_chanels": 8}}}, "'base_channels'"),
        ({"model_conf": {"discriminator_conf": {"scale": 1}}}, "discriminator_conf: "),
        ({"batch_conf": {"sise": 4}}, "'size'"),
        ({"model_conf": {"hift": {"upsample_rates": [8, 4]}}}, "do not fit the decoder's"),
    ],
)
def test_a_wrong_setting_is_one_line(corpus, tmp_path, changes, expected):
    """The checks alone: a process for each would import ESPnet five times."""
    from uas_plugin.codec.vocoder_config import segment_config, vocoder_training
    from uas_plugin.errors import UASError
    from uas_plugin.espnet.vocoder_task import make_model

    with pytest.raises(UASError) as caught:
        segment_config(changes.get("batch_conf", {}))
        make_model(vocoder_training(changes.get("model_conf", {})))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
