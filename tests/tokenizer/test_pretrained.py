"""A tokenizer that is not trained here, as the recipe exports it."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

import uas_plugin
from uas_plugin.bin.tokenizer_export import main
from uas_plugin.errors import UASError
from uas_plugin.tokenizer.export import encoder_only, save_tokenizer
from uas_plugin.tokenizer.flatten import FlattenedTokenizer
from uas_plugin.tokenizer.pretrained import PretrainedOptions, pretrained_facts
from uas_plugin.tokenizer.transformers_codecs import load_codec_tokenizer

_SPEC = importlib.util.spec_from_file_location(
    "codec_checkpoints", Path(__file__).with_name("codec_checkpoints.py")
)
codec_checkpoints = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(codec_checkpoints)


@pytest.fixture(scope="module")
def mimi(tmp_path_factory):
    return codec_checkpoints.save("mimi", tmp_path_factory.mktemp("codecs") / "mimi")


@pytest.fixture
def own(make_model, tmp_path):
    save_tokenizer(encoder_only(make_model()), tmp_path / "own")
    return tmp_path / "own"


def export(folder: Path, **section) -> Path:
    """Export by the command of the workflow."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "tokenizer_pretrained.yaml"
    config.write_text(
        yaml.safe_dump({k: str(v) if k == "model" else v for k, v in section.items()})
    )
    main(["--pretrained", str(config), "--output_dir", str(folder / "export")])
    return folder / "export"


def test_a_flattened_codec(mimi, clips, tmp_path):
    folder = export(tmp_path, model=mimi, num_codebooks=2, flatten=True)
    tokenizer = uas_plugin.load_tokenizer(folder)
    assert (tokenizer.codebook_size, tokenizer.frame_rate) == (32, 25.0)
    (codes,) = load_codec_tokenizer(mimi, num_codebooks=2).encode([(clips[1], 16000)])
    (ids,) = tokenizer.encode([(clips[1], 16000)])
    assert np.array_equal(tokenizer.unflatten(ids), codes)
    facts = {"folder": "mimi", "num_codebooks": 2, "flatten": True}
    assert pretrained_facts(folder) == {"pretrained": facts}
    assert str(tmp_path.parent) not in (folder / "provenance.json").read_text()
    # Once flattened it stays so, and it may be exported again.
    again = export(tmp_path / "again", model=folder)
    assert np.array_equal(uas_plugin.load_tokenizer(again).encode([(clips[1], 16000)])[0], ids)


def test_one_codebook_of_a_codec_has_flat_ids(mimi, clips, tmp_path):
    folder = export(tmp_path, model=mimi, num_codebooks=1, flatten=False)
    (ids,) = uas_plugin.load_tokenizer(folder).encode([(clips[1], 16000)])
    (codes,) = load_codec_tokenizer(mimi, num_codebooks=1).encode([(clips[1], 16000)])
    assert np.array_equal(ids, codes[:, 0])


def test_a_tokenizer_of_one_codebook(own, clips, tmp_path):
    folder = export(tmp_path, model=own)
    tokenizer = uas_plugin.load_tokenizer(folder)
    assert not isinstance(tokenizer, FlattenedTokenizer)
    (ids,) = tokenizer.encode([(clips[1], 16000)])
    assert np.array_equal(ids, uas_plugin.load_tokenizer(own).encode([(clips[1], 16000)])[0])
    assert pretrained_facts(folder) == {"pretrained": {"folder": "own"}}
    assert pretrained_facts(own) == {}, "a tokenizer that was trained here says nothing"


def test_what_the_recipe_cannot_take_is_refused_before_anything_is_written(mimi, own, tmp_path):
    for section, message in (
        ({"model": mimi}, "gives 4 ids a frame, but the recipe takes one: set .*flatten=true"),
        ({"model": mimi, "num_codebooks": 9}, "num_codebooks must be a number from 1 to 4, not 9"),
        ({"model": own, "num_codebooks": 2}, "has one codebook, not num_codebooks = 2"),
        ({"model": tmp_path / "none"}, "there is no such folder"),
        ({"model": mimi, "flaten": True}, "unknown key 'flaten'. Did you mean 'flatten'"),
        ({"flatten": True}, "tokenizer.pretrained.model must be a folder or a hub name"),
    ):
        with pytest.raises(UASError, match=message) as caught:
            export(tmp_path / "run", **section)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "run" / "export").exists()


def test_facts_of_a_hub_name():
    options = PretrainedOptions.from_mapping({"model": "kyutai/mimi", "num_codebooks": None})
    assert options.facts() == {"model": "kyutai/mimi"}


@pytest.mark.parametrize(
    "words", [[], ["--model", "a", "--pretrained", "b"], ["--pretrained", "b", "--weights", "c"]]
)
def test_the_command_takes_one_source(words, capsys, tmp_path):
    with pytest.raises(SystemExit):
        main([*words, "--output_dir", str(tmp_path / "export")])
    assert "--model" in capsys.readouterr().err.splitlines()[-1]


def test_the_dump_says_where_its_tokens_come_from(mimi, clips, tmp_path):
    import soundfile
    from lhotse import MonoCut, Recording

    from uas_plugin.data.manifests import save_cuts
    from uas_plugin.data.token_shards import merge_shards
    from uas_plugin.data.tokens import codebooks_of, read_token_info, read_token_text
    from uas_plugin.tokenizer.dump import dump_shard

    soundfile.write(tmp_path / "a.wav", clips[1], 16000, subtype="FLOAT")
    recording = Recording.from_file(tmp_path / "a.wav", recording_id="a")
    cuts = tmp_path / "cuts.jsonl.gz"
    save_cuts([MonoCut("a", 0.0, recording.duration, 0, recording=recording)], cuts)
    two = export(tmp_path / "two", model=mimi, num_codebooks=2, flatten=True)
    three = export(tmp_path / "three", model=mimi, num_codebooks=3, flatten=True)
    dump_shard(two, cuts, tmp_path / "dump", 0, 1)
    merge_shards(tmp_path / "dump", 1)
    info = read_token_info(tmp_path / "dump")
    assert (info["codebook_size"], info["frame_rate"], codebooks_of(info)) == (32, 25.0, 1)
    assert info["pretrained"] == {"folder": "mimi", "num_codebooks": 2, "flatten": True}
    (expected,) = uas_plugin.load_tokenizer(two).encode([tmp_path / "a.wav"])
    assert np.array_equal(read_token_text(tmp_path / "dump")["a"], expected)
    # The weights and the number of ids a frame are the same, the ids are not.
    dump_shard(three, cuts, tmp_path / "dump", 1, 2)
    assert (
        json.loads((tmp_path / "dump/shard.0001/info.json").read_text())["sha256"] == info["sha256"]
    )
    with pytest.raises(UASError, match="different tokenizers"):
        merge_shards(tmp_path / "dump", 2)
