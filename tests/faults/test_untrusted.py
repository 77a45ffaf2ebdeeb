"""Inputs made to do harm: refused with a line that says what they tried."""

from __future__ import annotations

import json
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from uas_plugin.atomic import read_jsonl
from uas_plugin.bin import load_section
from uas_plugin.data.audio import load_audio, read_samples
from uas_plugin.data.check import Fault, Limits, check_file
from uas_plugin.data.kaldi import write_kaldi
from uas_plugin.data.metadata import METADATA_NAME, read_metadata
from uas_plugin.data.output import make_cut
from uas_plugin.errors import UASError
from uas_plugin.recipe.folders import ROOT

DEEP = 10_000
EMPTY = {"paralinguistics": None}


def bomb(path: Path, frames: int) -> Path:
    """A FLAC file of a few samples whose header claims ``frames`` of them."""
    soundfile.write(path, np.zeros(800, np.float32), 16000, format="FLAC")
    content = bytearray(path.read_bytes())
    # STREAMINFO begins at byte 8; of its bytes 13 to 17 the last 36 bits are the sample count.
    (packed,) = struct.unpack(">Q", content[18:26])
    content[18:26] = struct.pack(">Q", packed >> 36 << 36 | frames)
    path.write_bytes(content)
    return path


def test_a_header_that_claims_hours_takes_no_memory(tmp_path: Path) -> None:
    path = bomb(tmp_path / "bomb.flac", 2**35)
    assert soundfile.info(path).duration > 500 * 3600
    for read in (read_samples, load_audio):
        with pytest.raises(UASError, match=r"claims 596.5 h of audio, but the file has only \d+ b"):
            read(str(path))
    with pytest.raises(UASError, match="claims 596.5 h"):  # as it lies in a Shar's archive
        read_samples(path.read_bytes())
    with pytest.raises(Fault, match="claims 596.5 h") as caught:
        check_file(path, Limits(max_duration=1e9))
    assert caught.value.category == "truncated"


def test_digital_silence_is_no_bomb(tmp_path: Path) -> None:
    path = tmp_path / "silence.flac"
    soundfile.write(path, np.zeros(16000 * 600, np.float32), 16000, format="FLAC")
    assert path.stat().st_size < 200_000
    assert len(load_audio(str(path))) == 16000 * 600


@pytest.mark.parametrize("name", ["x.flac |", "rm -rf ~ |", "a\nb.flac"])
def test_a_path_that_kaldi_would_run_is_refused(tmp_path: Path, name: str) -> None:
    cut = make_cut(
        id="a", path=Path("audio") / name, sampling_rate=16000, num_samples=16000, text="",
        language=None, speaker=None, custom={"uas": EMPTY},
    )  # fmt: skip
    with pytest.raises(UASError, match="would be run as a command by Kaldi's readers"):
        write_kaldi([cut], tmp_path / "kaldi")
    assert not (tmp_path / "kaldi").exists()


def metadata(folder: Path, **changes: object) -> None:
    row = {"id": "a", "path": "a.flac", "kind": "speech", "split": "train", **changes}
    (folder / METADATA_NAME).write_text(json.dumps(row) + "\n")


@pytest.mark.parametrize("name", ["../a", "a/b", "a\\b", ".hidden", "a b", "a\tb", "a\nb", ""])
def test_ids_that_are_no_file_names_are_refused(tmp_path: Path, name: str) -> None:
    metadata(tmp_path, id=name)
    with pytest.raises(UASError, match="no white space, no slash|'id' is missing"):
        read_metadata(tmp_path)


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", "a/../../b", "C:\\x", "a\0b"])
def test_paths_out_of_the_corpus_are_refused(tmp_path: Path, path: str) -> None:
    metadata(tmp_path, path=path)
    with pytest.raises(UASError, match="leaves the corpus folder; make it relative to it"):
        read_metadata(tmp_path)


@pytest.mark.parametrize("name", ["$(touch owned)", "`touch owned`", "a;touch${IFS}owned", "-rf"])
def test_names_with_shell_characters_are_only_names(tmp_path: Path, name: str) -> None:
    """A file of such a name is written and read, and nothing of it is run."""
    from uas_plugin.codec.decode import file_name

    target = tmp_path / file_name(name)
    assert target.parent == tmp_path
    soundfile.write(target, np.zeros(160, np.float32), 16000)
    assert len(load_audio(str(target))) == 160
    quoted = subprocess.run(
        ["bash", "-c", f". {ROOT}/workflow/scripts/job.sh; uas_bin fresh --dir \"$1\" -- \"$2\"",
         "job", str(tmp_path / "out"), str(target)],
        env={"PYTHON": _python(), "EXP": str(tmp_path / "exp"), "PATH": "/usr/bin:/bin",
             "PYTHONPATH": str(ROOT)},
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert quoted.returncode == 0, quoted.stderr
    assert not (tmp_path / "owned").exists()
    assert str(target) in json.loads((tmp_path / "out" / ".made_from.json").read_text())


def _python() -> str:
    import sys

    return sys.executable


@pytest.mark.parametrize("text", ["../../owned", "/abs", ".bashrc", "a/b"])
def test_no_id_leads_out_of_the_output_folder(tmp_path: Path, text: str) -> None:
    from uas_plugin.codec.decode import file_name

    target = tmp_path / file_name(text)
    assert target.resolve().parent == tmp_path.resolve() and not target.name.startswith(".")


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.abort []", "!new:os.abort"])
def test_tags_in_a_configuration_are_refused(tmp_path: Path, tag: str) -> None:
    path = tmp_path / "train.yaml"
    path.write_text(f"seed: {tag}\n")
    with pytest.raises(UASError, match="is not plain YAML"):
        load_section(path)
    assert not (tmp_path / "owned").exists()


def test_deep_nesting_is_refused_everywhere(tmp_path: Path) -> None:
    deep = "[" * DEEP + "]" * DEEP
    (tmp_path / "deep.yaml").write_text(f"a: {deep}\n")
    with pytest.raises(UASError, match="is not plain YAML"):
        load_section(tmp_path / "deep.yaml")
    (tmp_path / "rows.jsonl").write_text('{"id": 1}\n' + deep + "\n")
    rows = read_jsonl(tmp_path / "rows.jsonl")
    assert next(rows) == {"id": 1}
    with pytest.raises(UASError, match=r"rows.jsonl:2: not JSON"):
        next(rows)
    (tmp_path / METADATA_NAME).write_text(deep + "\n")
    with pytest.raises(UASError, match=f"{METADATA_NAME}:1: not JSON"):
        read_metadata(tmp_path)
    from uas_plugin.schema import SchemaError, parse, repair

    for read in (parse, repair):
        with pytest.raises(SchemaError):
            read(deep)


def test_a_pickle_among_the_weights_is_refused(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from uas_plugin.checkpoint import load_weights

    class Harm:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    torch.save({"weight": Harm()}, tmp_path / "model.pth")
    with pytest.raises(UASError, match="cannot be read .damaged, or no plain tensors"):
        load_weights(tmp_path / "model.pth")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("name", ["a b", "a;touch owned", "$(touch owned)", "a*", "a'b"])
def test_folders_that_a_shell_would_take_apart_are_refused(tmp_path: Path, name: str) -> None:
    from uas_plugin.recipe.prepare import prepare

    with pytest.raises(UASError, match="may hold letters, digits and"):
        prepare(ROOT / "egs" / "mini" / "uas1", expdir=str(tmp_path / name))
    with pytest.raises(UASError, match="may hold letters, digits and"):
        prepare(ROOT / "egs" / "mini" / "uas1", corpus=name, corpus_dir=str(tmp_path))


def test_nothing_unpacks_archives() -> None:
    """So none can write outside its folder. A Shar's archives are read where they lie."""
    words = ("unpack_archive", "extractall", ".extract(", "shell=True", "os.system(")
    found = [
        f"{path}: {word}"
        for path in (ROOT / "uas_plugin").rglob("*.py")
        for word in words
        if word in path.read_text(encoding="utf-8")
    ]
    assert found == []
