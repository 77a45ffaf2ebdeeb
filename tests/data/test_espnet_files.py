"""What stock ESPnet recipes read of a token dump: asr2, tts2, SpeechLM; command ``uas export``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from made_dump import TEXTS, make_dump

from uas_plugin.data.espnet_files import cli, units
from uas_plugin.data.espnet_files.asr2 import Asr2Options, export_asr2
from uas_plugin.data.espnet_files.durations import Durations
from uas_plugin.data.espnet_files.sets import TokenSet
from uas_plugin.data.espnet_files.speechlm import export_speechlm
from uas_plugin.data.espnet_files.spoken import by_arm, read_arm, write_arms, write_source
from uas_plugin.data.espnet_files.tts2 import Tts2Options, export_tts2
from uas_plugin.data.tokens import read_token_text
from uas_plugin.errors import UASError

SETS = ["train", "dev"]
SPOKEN = [place for place, text in enumerate(TEXTS) if text]
SMALL = Asr2Options(text_bpe=20)


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    for name in SETS:
        make_dump(tmp_path / "dump", name, seed=len(name))
    return tmp_path / "dump"


def lines(path: Path) -> dict[str, str]:
    """A Kaldi file, its order kept."""
    rows = [line.partition(" ") for line in path.read_text(encoding="utf-8").splitlines()]
    assert [row[0] for row in rows] == sorted((row[0] for row in rows), key=str.encode)
    return {row[0]: row[2] for row in rows}


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("symbols", units.SYMBOLS)
def test_asr2_holds_every_token(dump: Path, tmp_path: Path, symbols: units.Symbols) -> None:
    options = Asr2Options(symbols=symbols, text_tokens="word")
    info = export_asr2(dump, SETS, tmp_path / "out", options)
    for name in SETS:
        tokens = read_token_text(dump / name)
        source = lines(tmp_path / "out" / name / "text.ts.uas64")
        assert list(source) == [f"{name}-{place}" for place in SPOKEN]
        for utt, text in source.items():
            np.testing.assert_array_equal(units.text_to_units(text, symbols), tokens[utt])
        assert list(lines(tmp_path / "out" / name / "text.ts.text").values()) == [
            TEXTS[place] for place in SPOKEN
        ]
        kept = sum(len(tokens[utt]) for utt in source)
        expected = {"num_utts": 5, "num_units": kept, "no_text": 1, "no_tokens": 0}
        assert expected.items() <= info["sets"][name].items()
    assert (info["n_shift"], info["num_units"]) == (640, 64)
    listed = (tmp_path / "out" / info["src_token_list"]).read_text().splitlines()
    assert listed[:2] == ["<blank>", "<unk>"] and listed[-1] == "<sos/eos>"
    assert listed[2:-1] == [units.symbol_of(unit, symbols) for unit in range(64)]
    words = (tmp_path / "out" / info["token_list"]).read_text().splitlines()
    assert words[2:-1] == ["one", "two", "three", "four"]


def test_repeats_are_removed_when_asked(dump: Path, tmp_path: Path) -> None:
    export_asr2(dump, SETS, tmp_path / "out", Asr2Options(repeats="remove", text_bpe=20))
    tokens = read_token_text(dump / "dev")
    for utt, text in lines(tmp_path / "out" / "dev" / "text.rm.uas64").items():
        found = units.text_to_units(text, "char")
        np.testing.assert_array_equal(found, units.without_repeats(tokens[utt]))
        assert len(found) < len(tokens[utt])


def test_unit_bpe_knows_every_id_and_gives_all_back(dump: Path, tmp_path: Path) -> None:
    info = export_asr2(dump, SETS, tmp_path / "out", Asr2Options(unit_bpe=90, text_bpe=20))
    model = sentencepiece.SentencePieceProcessor(
        model_file=str(tmp_path / "out" / info["src_bpemodel"])
    )
    listed = (tmp_path / "out" / info["src_token_list"]).read_text(encoding="utf-8").split("\n")
    merged = 0
    for name in SETS:
        for text in lines(tmp_path / "out" / name / info["src_text"]).values():
            pieces = model.encode(text, out_type=str)
            assert "".join(pieces) == text and set(pieces) <= set(listed)
            merged += len(text) - len(pieces)
    assert merged > 0
    # Ids that no set has are pieces too.
    everything = units.units_to_text(range(64), "char")
    assert model.unk_id() not in model.encode(everything)


def test_several_codebooks_are_written_frame_by_frame(tmp_path: Path) -> None:
    make_dump(tmp_path / "dump", "train", codebooks=3)
    info = export_asr2(tmp_path / "dump", ["train"], tmp_path / "out", SMALL)
    tokens = read_token_text(tmp_path / "dump" / "train")
    text = lines(tmp_path / "out" / "train" / info["src_text"])["train-0"]
    found = units.text_to_units(text, "char").reshape(-1, 3)
    np.testing.assert_array_equal(found - [0, 64, 128], tokens["train-0"])
    first = Asr2Options(codebooks=1, text_bpe=20, repeats="remove")
    export_asr2(tmp_path / "dump", ["train"], tmp_path / "first", first)
    with pytest.raises(UASError, match="must stay whole: give --codebooks 1"):
        export_asr2(tmp_path / "dump", ["train"], tmp_path / "x", Asr2Options(repeats="remove"))


def test_a_finished_set_is_left_and_a_changed_one_made_again(dump: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_asr2(dump, SETS, out, SMALL)
    before, times = snapshot(out), (out / "dev" / "info.json").stat().st_mtime_ns
    export_asr2(dump, SETS, out, SMALL)
    assert snapshot(out) == before
    assert (out / "dev" / "info.json").stat().st_mtime_ns == times
    # Killed before a set's last file: it is made again, with the same result.
    (out / "dev" / "info.json").unlink()
    (out / "dev" / "text.ts.text").write_text("half")
    export_asr2(dump, SETS, out, SMALL)
    assert snapshot(out) == before
    assert not list(out.rglob(".*tmp*"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_tokens": 5}, "cuts and tokens, info.json says"),
        ({"codebook_size": 10}, "an id lies outside 0 to 9"),
        ({"num_codebooks": 1000}, "no whole frames"),
    ],
)
def test_a_dump_that_contradicts_itself_is_refused(
    tmp_path: Path, change: dict[str, int], message: str
) -> None:
    make_dump(tmp_path / "dump", "train", **change)
    with pytest.raises(UASError, match=message):
        list(TokenSet(tmp_path / "dump" / "train").rows())


def test_lines_that_are_not_those_of_the_cuts_are_refused(dump: Path, tmp_path: Path) -> None:
    path = dump / "dev" / "token"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(UASError, match="cut 'dev-0' stands beside 'dev-1'"):
        export_asr2(dump, SETS, tmp_path / "out", SMALL)
    assert not (tmp_path / "out" / "dev" / "text.ts.uas64").exists()


def test_frame_grid_must_be_whole_samples(tmp_path: Path) -> None:
    folder = make_dump(tmp_path / "dump", "train", frame_rate=12.5)
    assert TokenSet(folder).n_shift == 1280
    odd = make_dump(tmp_path / "odd", "train", frame_rate=21.5)
    with pytest.raises(UASError, match=r"no whole number of samples at 21.5 tokens"):
        _ = TokenSet(odd).n_shift


def test_tts2_writes_tokens_durations_and_voices(dump: Path, tmp_path: Path) -> None:
    tokens = read_token_text(dump / "train")
    rows = []
    for place in SPOKEN[:-1]:  # the last one was not aligned
        words, frames = len(TEXTS[place].split()), len(tokens[f"train-{place}"])
        rows.append([f"train-{place}", frames - words + 1, *[1] * (words - 1)])
    (tmp_path / "ali").write_text("".join(" ".join(map(str, row)) + "\n" for row in rows))
    options = Tts2Options(
        text_tokens="word", durations={"train": str(tmp_path / "ali")}, speakers=2
    )
    info = export_tts2(dump, SETS, tmp_path / "out", options)
    out = tmp_path / "out" / "train"
    target = lines(out / info["discrete_speech"])
    assert {utt: text.split() for utt, text in target.items()} == {
        row[0]: [str(unit) for unit in tokens[row[0]]] for row in rows
    }
    for utt, text in lines(out / "durations").items():
        values = [int(value) for value in text.split()]
        assert values[-1] == 0 and sum(values) == len(tokens[utt])
        assert len(values) == len(lines(out / "text")[utt].split()) + 1
    assert info["sets"]["train"]["not_aligned"] == 1 and info["n_shift"] == 640
    assert not (tmp_path / "out" / "dev" / "durations").exists()
    assert set(lines(out / "utt2sid").values()) == {"0", "1"}
    symbols = (tmp_path / "out" / info["tgt_token_list"]).read_text().splitlines()
    assert len(symbols) == info["num_units"] == 64
    assert all(Path(path).exists() for path in lines(out / "wav.scp").values())
    with pytest.raises(UASError, match="2 speakers, the model's table 1: give --speakers 2"):
        export_tts2(dump, SETS, tmp_path / "few", Tts2Options(speakers=1, text_bpe=20))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train-0 1 1 1\n", "3 durations of 3 frames, its text 3 tokens and its audio"),
        ("train-0 -1 3\n", "a duration is negative"),
        ("train-0 a\n", "durations must be integers"),
        ("s 3\na 3\n", "sort the lines"),
    ],
)
def test_durations_that_do_not_fit_are_refused(
    dump: Path, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "ali").write_text(text)
    options = Tts2Options(text_tokens="word", durations={"train": str(tmp_path / "ali")})
    with pytest.raises(UASError, match=message):
        export_tts2(dump, SETS, tmp_path / "out", options)


def test_durations_are_read_in_step(tmp_path: Path) -> None:
    (tmp_path / "ali").write_text("a 1 2\nc 3\nd 4\n")
    durations = Durations(tmp_path / "ali")
    assert durations.of("a", 2, 3).tolist() == [1, 2]
    assert durations.of("b", 1, 1) is None
    assert durations.of("d", 1, 4).tolist() == [4]
    assert durations.of("e", 1, 4) is None


def test_arms_are_gathered_and_told_apart(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("b 1 1 2\na 3\n")
    (tmp_path / "tts").mkdir()
    rows = []
    for utt, ids in (("a", [5, 5]), ("b", [7])):
        np.save(tmp_path / "tts" / f"{utt}.npy", np.array(ids, dtype=np.int64))
        rows.append(f"{utt} {tmp_path / 'tts' / utt}.npy\n")
    (tmp_path / "tts" / "feats.scp").write_text("".join(rows))
    arms = {"tts": str(tmp_path / "tts" / "feats.scp"), "real": str(tmp_path / "real")}
    assert write_arms(arms, tmp_path / "all") == 4
    found = read_arm(tmp_path / "all")
    assert {key: ids.tolist() for key, ids in found.items()} == {
        "real--a": [3], "real--b": [1, 1, 2], "tts--a": [5, 5], "tts--b": [7],
    }  # fmt: skip
    write_source(found.items(), Asr2Options(repeats="remove", symbols="word"), tmp_path / "source")
    assert by_arm(lines(tmp_path / "source"))["real"] == {"a": "u3", "b": "u1 u2"}
    (tmp_path / "real").write_text("a 3\n")
    with pytest.raises(UASError, match="not of the same utterances: 'b'"):
        write_arms(arms, tmp_path / "all")


def test_speechlm_lengths_are_frames_and_text(dump: Path, tmp_path: Path) -> None:
    info = export_speechlm(dump, "dev", tmp_path / "out", audio="text")
    tokens = read_token_text(dump / "dev")
    rows = (tmp_path / "out" / "stats" / "stats_audio_to_text_dev.jsonl").read_text().splitlines()
    lengths = {utt: n for row in rows for utt, n in json.loads(row).items()}
    assert lengths == {
        f"dev-{place}": len(tokens[f"dev-{place}"]) + len(TEXTS[place]) for place in SPOKEN
    }
    assert info["num_examples"] == 5 and info["total_length"] == sum(lengths.values())


def test_command_reads_options_from_a_file_and_prints_what_it_wrote(
    dump: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "export.yaml").write_text("symbols: word\ntext_bpe: 20\ntgt_lang: en\n")
    words = ["espnet-asr2", "--dump", str(dump), "--sets", *SETS, "--config"]
    words += [str(tmp_path / "export.yaml"), "--output_dir", str(tmp_path / "out")]
    cli.main([*words, "--tgt_lang", "words"])
    info = json.loads(capsys.readouterr().out)
    assert info["text"] == "text.ts.words" and info["src_token_type"] == "word"
    (tmp_path / "export.yaml").write_text("symbol: word\n")
    with pytest.raises(UASError, match="unknown key 'symbol'. Did you mean 'symbols'"):
        cli.main(words)
    with pytest.raises(UASError, match="no export 'espnet-asr'.*Did you mean 'espnet-asr2'"):
        cli.main(["espnet-asr"])
