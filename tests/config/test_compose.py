"""Composition: what Hydra makes of the recipe, and one-line errors with the nearest key."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from uas_plugin.config.compose import choices, compose
from uas_plugin.config.keys import check_keys, dotted_keys, merged
from uas_plugin.config.sections import (
    TOKENIZER_SECTIONS,
    build_sections,
    cap_steps,
    trains_vocoder,
)
from uas_plugin.errors import UASError
from uas_plugin.recipe.schema import validate_composed

RECIPE = Path(__file__).parents[2] / "egs" / "mini" / "uas1"


def message_of(*overrides: str, **keywords) -> str:
    with pytest.raises(UASError) as caught:
        compose(RECIPE, overrides, **keywords)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_override_changes_one_value() -> None:
    base, changed = compose(RECIPE), compose(RECIPE, ["trainer.log_interval=7"])
    assert changed["trainer"].pop("log_interval") == 7
    base["trainer"].pop("log_interval")
    assert changed == base


@pytest.mark.parametrize(
    "override, expected",
    [
        (
            "trainer.max_stepz=3",
            "unknown configuration key 'trainer.max_stepz'.*'trainer.max_steps'",
        ),
        ("tokenizer.model.d_modl=3", "'tokenizer.model.d_modl'.*'tokenizer.model.d_model'"),
        (
            "tokenizer=uniaudio_smal",
            "unknown option 'uniaudio_smal'.*group 'tokenizer'.*Did you mean",
        ),
        ("tokeniser=x", "unknown configuration key 'tokeniser'. Did you mean 'tokenizer'"),
        ("corpus=realmin", "unknown option 'realmin'.*Did you mean 'realmini'"),
        ("trainer", "'trainer' is neither an option .* nor an override"),
        ("trainer.max_steps=[", r"trainer\.max_steps=\["),
    ],
)
def test_mistakes_name_the_key_and_the_nearest(override: str, expected: str) -> None:
    assert re.search(expected, message_of(override))


def test_config_file_is_written_over_the_group(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("model: {d_model: 64}\ntrain: {max_epoch: 3, optim_conf: {fused: true}}\n")
    files = {"tokenizer": path}
    config = compose(RECIPE, ["tokenizer.train.max_epoch=5"], files)
    assert config["tokenizer"]["model"]["d_model"] == 64
    assert config["tokenizer"]["train"]["max_epoch"] == 5, "single overrides come last"
    assert config["tokenizer"]["train"]["optim_conf"]["fused"] is True
    default = compose(RECIPE)
    assert config["tokenizer"]["batch"] == default["tokenizer"]["batch"]
    assert config["lm"] == default["lm"]


@pytest.mark.parametrize(
    "content, expected",
    [
        ("modle: {d_model: 64}", "unknown key 'tokenizer.modle'.*Did you mean 'tokenizer.model'"),
        ("train: {max_epochs: 64}", "'tokenizer.train.max_epochs'.*'tokenizer.train.max_epoch'"),
        ("train: 7", "'tokenizer.train' in .* must be a mapping"),
        ("- a", "must be a mapping"),
        ("a: [", "is not plain YAML"),
        ("model: !!python/object/apply:os.getcwd []", "is not plain YAML"),
    ],
)
def test_bad_config_file(tmp_path: Path, content: str, expected: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    assert re.search(expected, message_of(files={"tokenizer": path}))


def test_missing_config_file(tmp_path: Path) -> None:
    assert "cannot read" in message_of(files={"tokenizer": tmp_path / "none.yaml"})
    assert "unknown configuration group" in message_of(files={"tokeniser": tmp_path})


def test_presets_may_only_write_known_keys(tmp_path: Path) -> None:
    import shutil

    recipe = tmp_path / "recipe"
    shutil.copytree(RECIPE / "conf", recipe / "conf")
    preset = recipe / "conf" / "size" / "mine.yaml"
    preset.write_text("# @package _global_\ntrainer:\n  max_stepz: 4\n")
    with pytest.raises(UASError, match=r"'trainer.max_stepz' in .*mine.yaml.*'trainer.max_steps'"):
        compose(recipe, ["size=mine"])
    preset.write_text("# @package _global_\ntrainer:\n  max_steps: 4\n")
    assert compose(recipe, ["size=mine"])["trainer"]["max_steps"] == 4


@pytest.mark.parametrize("option", ["no_ctc", "no_class_heads", "no_sae"])
def test_ablations_differ_from_their_base_in_what_they_name(option: str) -> None:
    base = compose(RECIPE, ["tokenizer=ablation/base"])["tokenizer"]
    other = compose(RECIPE, [f"tokenizer=ablation/{option}"])["tokenizer"]
    assert other["name"] == option
    differing = {k for k in base["model"] if base["model"][k] != other["model"][k]}
    expected = {
        "no_ctc": {"ctc_weight"},
        "no_class_heads": {"class_weight"},
        "no_sae": {"encoder_residual_source_position", "encoder_residual_target_position"},
    }
    assert differing == expected[option]
    assert {k: v for k, v in other.items() if k not in ("name", "model")} == {
        k: v for k, v in base.items() if k not in ("name", "model")
    }


PRETRAINED = {
    "mimi": {"model": "kyutai/mimi", "num_codebooks": 2, "flatten": True},
    "encodec": {"model": "facebook/encodec_24khz", "num_codebooks": 1, "flatten": True},
    "dac": {"model": "descript/dac_16khz", "num_codebooks": 1, "flatten": True},
    "xcodec": {
        "model": "hf-audio/xcodec-hubert-general-balanced", "num_codebooks": 1, "flatten": True,
    },
    "pretrained_folder": {"model": "some/folder", "num_codebooks": None, "flatten": False},
}  # fmt: skip


@pytest.mark.parametrize("option", PRETRAINED)
@pytest.mark.parametrize("size", ["full", "smoke"])
def test_a_pretrained_tokenizer_has_a_section_instead_of_trainings(option: str, size: str) -> None:
    chosen = [f"tokenizer={option}", f"size={size}"]
    if option == "pretrained_folder":
        chosen.append("tokenizer.pretrained.model=some/folder")
    config, default = compose(RECIPE, chosen), compose(RECIPE, [f"size={size}"])
    validate_composed(config)
    assert config["tokenizer"] == {
        **default["tokenizer"],
        "name": option,
        "pretrained": PRETRAINED[option],
    }
    sections = build_sections(config)
    assert sections.pop("tokenizer_pretrained") == PRETRAINED[option]
    trained = build_sections(default)
    assert "tokenizer_pretrained" not in trained
    assert sections == {k: v for k, v in trained.items() if k not in TOKENIZER_SECTIONS}


def test_one_option_of_a_pretrained_tokenizer() -> None:
    chosen = ["tokenizer=mimi", "tokenizer.pretrained.num_codebooks=4"]
    section = build_sections(compose(RECIPE, chosen))["tokenizer_pretrained"]
    assert section == {**PRETRAINED["mimi"], "num_codebooks": 4}


@pytest.mark.parametrize(
    "overrides, expected",
    [
        (["tokenizer=pretrained_folder"], "'tokenizer.pretrained.model' has no value"),
        (
            ["tokenizer=mimi", "tokenizer.pretrained.flaten=true"],
            "unknown configuration key 'tokenizer.pretrained.flaten'",
        ),
        (
            ["tokenizer.pretrained.model=kyutai/mimi"],
            "unknown configuration key 'tokenizer.pretrained.model'",
        ),
    ],
)
def test_mistakes_in_a_pretrained_tokenizer(overrides: list[str], expected: str) -> None:
    assert re.search(expected, message_of(*overrides))


@pytest.mark.parametrize(
    "content, expected",
    [
        ("{model: a/b, flaten: true}", "'tokenizer.pretrained.flaten'.*Did you mean 'flatten'"),
        ("{flatten: true}", "tokenizer.pretrained: 'model' is a required property"),
        ("{model: a/b, num_codebooks: 0}", "tokenizer.pretrained.num_codebooks: 0 is less"),
        ("{model: a/b, flatten: 2}", "tokenizer.pretrained.flatten: 2 is not of type 'boolean'"),
        ("{model: ''}", "tokenizer.pretrained.model: ''"),
        ("kyutai/mimi", "tokenizer.pretrained: 'kyutai/mimi' is not of type"),
    ],
)
def test_a_pretrained_tokenizer_in_a_file_of_ones_own(
    tmp_path: Path, content: str, expected: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("pretrained: {model: a/b, flatten: true}\n")
    config = compose(RECIPE, files={"tokenizer": path})
    validate_composed(config)
    assert build_sections(config)["tokenizer_pretrained"] == {"model": "a/b", "flatten": True}
    path.write_text(f"pretrained: {content}\n")
    with pytest.raises(UASError) as caught:
        validate_composed(compose(RECIPE, files={"tokenizer": path}))
    assert re.search(expected, str(caught.value)) and "\n" not in str(caught.value)


def test_a_changed_option_changes_only_its_section() -> None:
    base = build_sections(compose(RECIPE))
    changed = build_sections(compose(RECIPE, ["score.seed=5"]))
    assert [name for name in base if base[name] != changed[name]] == ["score"]
    changed = build_sections(compose(RECIPE, ["codec.train.max_epoch=5"]))
    assert [name for name in base if base[name] != changed[name]] == ["codec"]


def test_a_vocoder_is_a_training_or_plain_settings() -> None:
    config = compose(RECIPE)
    plain = build_sections(config)["vocoder"]
    assert plain == {"name": "griffin_lim", "iterations": 16, "momentum": 0.9, "seed": 0}
    assert not trains_vocoder(config)
    for option in ("hift_small", "hift"):
        config = compose(RECIPE, [f"vocoder={option}", "size=smoke"])
        validate_composed(config)
        assert trains_vocoder(config)
        section = build_sections(config)["vocoder"]
        assert {"model_conf", "batch_conf", "max_epoch", "optim", "optim2"} <= set(section)
        assert "name" not in section
        assert section["max_epoch"] * section["num_iters_per_epoch"] == 4


@pytest.mark.parametrize("option", choices(RECIPE, "codec"))
@pytest.mark.parametrize("size", ["full", "smoke"])
def test_every_token_decoder_has_known_settings(option: str, size: str) -> None:
    from uas_plugin.codec.config import decoder_config
    from uas_plugin.codec.crops import batch_config

    config = compose(RECIPE, [f"codec={option}", f"size={size}"])
    validate_composed(config)
    section = build_sections(config)["codec"]
    decoder = decoder_config({**section["model_conf"], "vocab_size": 8, "frame_rate": 25.0})
    batch = batch_config(section["batch_conf"])
    if option == "universal_audio_decoder":
        cfm, parts = decoder.cfm, (decoder.encoder.name, decoder.estimator.name)
        assert parts == ("block_transformer", "unet")
        rates = cfm.training_cfg_rate, cfm.inference_cfg_rate, cfm.prefix_rate, cfm.prefix_max
        assert rates == (0.2, 0.7, 0.5, 0.8)
        assert (batch.frames, cfm.prior_weight) == (10000, 0.0)
        assert (section["optim"], section["optim_conf"]["lr"]) == ("adam", 3.0e-4)
        assert section["scheduler_conf"] == {"warmup_steps": 25000}
        assert section["grad_clip"] == 1.5


@pytest.mark.parametrize("option", ["hift_small", "hift"])
def test_every_vocoder_has_known_settings(option: str) -> None:
    from uas_plugin.codec.hift import HiFTConfig, hift_config
    from uas_plugin.codec.vocoder_config import segment_config, vocoder_training

    section = build_sections(compose(RECIPE, [f"vocoder={option}"]))["vocoder"]
    training = vocoder_training(section["model_conf"])
    segment_config(section["batch_conf"])
    sizes = hift_config(training.hift)
    assert sizes.hop_length == training.mel.hop_length
    assert option != "hift" or sizes == HiFTConfig()


def test_training_sections_are_espnet_options() -> None:
    config = compose(RECIPE)
    sections = build_sections(config)
    for name in ("tokenizer_align", "tokenizer", "codec", "audiollm"):
        section = sections[name]
        assert {"model_conf", "batch_conf", "max_epoch", "ngpu", "seed"} <= set(section)
        assert "max_steps" not in section
    assert sections["tokenizer_align"]["model_conf"]["quantize_enabled"] is False
    assert "quantize_enabled" not in sections["tokenizer"]["model_conf"]
    assert yaml.safe_load(yaml.safe_dump(sections)) == sections


@given(epochs=st.integers(1, 50), steps=st.integers(1, 500), limit=st.integers(1, 3000))
def test_cap_steps_keeps_to_the_limit(epochs: int, steps: int, limit: int) -> None:
    section = cap_steps({"max_epoch": epochs, "num_iters_per_epoch": steps, "a": 1}, limit)
    total = section["max_epoch"] * section["num_iters_per_epoch"]
    assert 1 <= total <= max(epochs * steps, 1)
    assert total <= limit + section["num_iters_per_epoch"], "at most an unfinished epoch more"
    if epochs * steps <= limit:
        assert total == epochs * steps
    if limit >= 2 and epochs >= 2 and steps >= 2:
        assert section["max_epoch"] >= 2
    assert section["a"] == 1


names = st.text("abc", min_size=1, max_size=2)
trees = st.recursive(
    st.integers(), lambda inner: st.dictionaries(names, inner, max_size=3), max_leaves=8
)


@given(base=st.dictionaries(names, trees), changes=st.dictionaries(names, trees))
def test_merged_has_the_keys_of_both(base: dict, changes: dict) -> None:
    both = merged(base, changes)
    assert set(dotted_keys(changes)) <= set(dotted_keys(both))
    assert set(both) == set(base) | set(changes)
    assert merged(both, changes) == both


@given(tree=st.dictionaries(names, trees))
def test_every_tree_fits_itself(tree: dict) -> None:
    check_keys(tree, tree, where="here")


def test_config_show_prints_what_compose_returns() -> None:
    command = [sys.executable, "-m", "uas_plugin.cli", "config", "show", "--recipe", str(RECIPE)]
    shown = subprocess.run([*command, "size=smoke"], capture_output=True, text=True, check=True)
    assert yaml.safe_load(shown.stdout) == compose(RECIPE, ["size=smoke"])
    section = subprocess.run([*command, "--section", "text"], capture_output=True, text=True)
    assert yaml.safe_load(section.stdout) == build_sections(compose(RECIPE))["text"]
    wrong = subprocess.run([*command, "--section", "txt"], capture_output=True, text=True)
    assert wrong.returncode == 2 and "Did you mean 'text'" in wrong.stderr
    wrong = subprocess.run([*command, "trainer.max_steps=abc"], capture_output=True, text=True)
    assert wrong.returncode == 2 and "trainer.max_steps: 'abc' is not of type" in wrong.stderr
