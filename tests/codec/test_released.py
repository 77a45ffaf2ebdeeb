"""Released folders: what is read, what is refused, and conversion."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from uas_plugin.cli import main
from uas_plugin.codec.api import load_codec
from uas_plugin.codec.released_config import flow_config, hift_config, load_yaml
from uas_plugin.errors import UASError

GOLDEN = Path(__file__).parents[1] / "golden/uniaudio_token/decoder"
IDS = np.arange(9)


@pytest.fixture
def release(tmp_path) -> Path:
    """A release's folder that a test may spoil."""
    folder = tmp_path / "release"
    folder.mkdir()
    for name in ("config.yaml", "flow.safetensors", "hift.safetensors"):
        (folder / name).write_bytes((GOLDEN / name).read_bytes())
    return folder


def change(folder: Path, old: str, new: str) -> None:
    path = folder / "config.yaml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_conversion_keeps_the_sound(release, tmp_path, capsys):
    main(["codec", "convert", str(release), str(tmp_path / "ours")])
    names = {path.name for path in (tmp_path / "ours").iterdir()}
    assert names == {"config.json", "model.safetensors", "vocoder.safetensors"}
    ours, theirs = load_codec(tmp_path / "ours"), load_codec(release)
    np.testing.assert_array_equal(ours.decode(IDS)[0], theirs.decode(IDS)[0])
    assert (ours.sampling_rate, ours.frame_rate, ours.codebook_size) == (22050, 25.0, 96)


@pytest.mark.parametrize(
    ("line", "tag"),
    [
        ("x: !!python/object/apply:os.system ['touch HIT']", "python/object/apply:os.system"),
        ("x: !!python/name:os.system", "python/name:os.system"),
        ("x: !apply:os.system ['touch HIT']", "!apply:os.system"),
        ("x: !new:subprocess.Popen {args: 'touch HIT'}", "!new:subprocess.Popen"),
        ("x: !name:builtins.eval", "!name:builtins.eval"),
        ("x: !include:other.yaml", "!include:other.yaml"),
        ("x: !module:os", "!module:os"),
    ],
)
def test_dangerous_tags_are_named_and_nothing_runs(release, line, tag, monkeypatch):
    monkeypatch.chdir(release)
    path = release / "config.yaml"
    path.write_text(f"{line}\n{path.read_text(encoding='utf-8')}", encoding="utf-8")
    with pytest.raises(UASError, match=tag.replace(".", r"\.")):
        load_codec(release)
    assert not os.path.exists("HIT")


def test_seeds_and_references_of_public_configurations_are_read(release):
    change(release, "sample_rate: 22050", "rate: 22050\nids: 96\nseed: !apply:random.seed [1986]")
    change(release, "vocab_size: 96", "vocab_size: !ref <ids>")
    change(release, "sampling_rate: 22050", "sampling_rate: !ref <rate>")
    assert load_codec(release).codebook_size == 96


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("cosyvoice.flow.decoder.ConditionalDecoder", "other.Decoder", "!new:other.Decoder"),
        ('act_fn: "gelu"', 'act_fn: "snake"', "act_fn must be 'gelu'"),
        ("block_size: 10", "block_sise: 10", "unknown argument 'block_sise'"),
        ("vocab_size: 96", "vocab_size: many", "vocab_size must be int"),
        ("vocab_size: 96", "vocab_size: 97", "input_embedding.weight has shape"),
        ("channels: [16, 24]", "channels: [16, x]", "must hold integers"),
        ("normalize_before: true", "normalize_before: false", "normalize_before must be True"),
        ("nb_harmonics: 8", "nb_harmonics: 7", "source.l_linear.weight has shape"),
        ("flow: !new", "flux: !new", "flow must be"),
        ("sample_rate: 22050", "a: &a 1\nb: *a", "aliases"),
        ("sample_rate: 22050", "a: [1", "not readable as YAML"),
        ("vocab_size: 96", "vocab_size: !ref <a> * 2", "must name one key"),
    ],
)
def test_unknown_settings_are_named(release, old, new, message):
    change(release, old, new)
    with pytest.raises(UASError, match=message) as caught:
        load_codec(release)
    assert str(release) in str(caught.value)


def test_damaged_and_dangerous_weights(release):
    flow = (release / "flow.safetensors").read_bytes()
    (release / "flow.safetensors").unlink()
    (release / "flow.pt").write_bytes(flow[: len(flow) // 2])
    with pytest.raises(UASError, match=r"flow\.pt: the weights cannot be read"):
        load_codec(release)

    class Evil:
        def __reduce__(self):
            return os.system, ("touch HIT",)

    torch.save({"a": Evil()}, release / "flow.pt")
    with pytest.raises(UASError, match=r"flow\.pt"):
        load_codec(release)
    assert not (release / "HIT").exists() and not Path("HIT").exists()
    torch.save({"a": 1}, release / "flow.pt")
    with pytest.raises(UASError, match="state dict of tensors"):
        load_codec(release)
    (release / "flow.safetensors").write_bytes(flow)
    (release / "hift.safetensors").unlink()
    with pytest.raises(UASError, match="hift.pt or hift.safetensors is missing"):
        load_codec(release)


def test_defaults_are_those_of_the_published_classes(release):
    change(release, "        block_size: 10\n", "")
    top = load_yaml(release / "config.yaml")
    assert flow_config(top, hift_config(top)).encoder.block_size == 25


def test_other_names_of_the_vocoders_weights(release):
    from safetensors.torch import load_file, save_file

    path = release / "hift.safetensors"
    other = {
        f"generator.{name}".replace("pre_conv", "conv_pre")
        .replace("post_conv", "conv_post")
        .replace(".source.", ".m_source.")
        .replace(".conv1.", ".convs1.")
        .replace(".conv2.", ".convs2."): value
        for name, value in load_file(path).items()
    }
    wanted = load_codec(release).decode(IDS)[0]
    save_file(other, path)
    np.testing.assert_array_equal(load_codec(release).decode(IDS)[0], wanted)
