"""``uas ctc`` on files: decoding, alignment, rescoring; and what it says of wrong ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from uas_plugin.atomic import read_jsonl, write_jsonl
from uas_plugin.bin import run_main
from uas_plugin.ctc import backend as backends
from uas_plugin.ctc import rescore
from uas_plugin.ctc.backend import Backend
from uas_plugin.ctc.cli import main
from uas_plugin.ctc.dump import write_posteriors
from uas_plugin.data.durations import read_durations
from uas_plugin.errors import UASError

NAMES = ["<blank>", "<unk>", "a", "b", "<space>", "<sos/eos>"]
TEXTS = {"u1": "ab a", "u2": "b", "u3": "a b ab"}


@pytest.fixture
def spoken(tmp_path: Path) -> Path:
    """Posteriors that say TEXTS, two frames a letter and a blank; and the texts."""
    rng = np.random.default_rng(0)
    items = []
    for key, text in TEXTS.items():
        ids = [NAMES.index("<space>" if letter == " " else letter) for letter in text]
        labels = [label for i in ids for label in (i, i, 0)]
        scores = rng.normal(size=(len(labels), len(NAMES)))
        scores[np.arange(len(labels)), labels] += 8
        items.append((key, torch.tensor(scores).log_softmax(dim=1).float().numpy()))
    write_posteriors(
        tmp_path / "posteriors", items, NAMES, frame_rate=25.0, token_type="char", shard_size=2
    )
    lines = [f"{key} {text}\n" for key, text in TEXTS.items()]
    (tmp_path / "text").write_text("".join(lines))
    return tmp_path


def uas_ctc(capsys: pytest.CaptureFixture[str], *argv: object) -> dict[str, Any]:
    main([str(word) for word in argv])
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    with pytest.raises(SystemExit) as end:
        run_main(main, [str(word) for word in argv])
    assert end.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("engine", ["torch", "k2"])
def test_from_posteriors_to_texts_and_durations(
    spoken: Path, capsys: Any, engine: str, request: pytest.FixtureRequest
) -> None:
    kind = request.getfixturevalue(f"{engine}_backend").kind
    common = ("--posteriors", spoken / "posteriors", "--text", spoken / "text", "--backend", kind)
    found = uas_ctc(capsys, "decode", *common, "--output", spoken / "out", "--nbest", 3)
    assert found["wer"] == 0 and found["hits"] == 6 and found["backend"] == kind
    assert (spoken / "out/text").read_text() == (spoken / "text").read_text()
    found = uas_ctc(capsys, "align", *common, "--output", spoken / "align")
    assert found["aligned"] == 3 and found["left_out"] == 0
    for key, durations in read_durations(spoken / "align/durations").items():
        assert durations.tolist() == [3] * len(TEXTS[key])
    words = read_durations(spoken / "align/word_durations")
    assert words["u1"].tolist() == [9, 3] and words["u3"].sum() == 18
    assert (spoken / "align/ctm").read_text().splitlines()[:2] == [
        "u1 1 0.000 0.360 ab",
        "u1 1 0.360 0.120 a",
    ]


def test_other_scores_choose_among_the_n_best(spoken: Path, capsys: Any) -> None:
    common = ("--posteriors", spoken / "posteriors", "--backend", "torch")
    uas_ctc(capsys, "decode", *common, "--output", spoken / "out", "--nbest", 3)
    rows = list(read_jsonl(spoken / "out/nbest.jsonl"))
    wanted = {row["id"]: row["hypotheses"][-1]["text"] for row in rows}
    scores = [
        {"id": row["id"], "text": h["text"], "score": 100.0 * (h["text"] == wanted[row["id"]])}
        for row in rows
        for h in row["hypotheses"]
    ]
    write_jsonl(spoken / "scores.jsonl", scores)
    again = ("rescore", "--nbest", spoken / "out/nbest.jsonl", "--output", spoken / "again")
    uas_ctc(capsys, *again, "--scores", spoken / "scores.jsonl")
    best = {row["id"]: row["hypotheses"][0] for row in read_jsonl(spoken / "again/nbest.jsonl")}
    assert {key: h["text"] for key, h in best.items()} == wanted
    assert best["u1"]["score"] == pytest.approx(best["u1"]["am"] + 100)
    uas_ctc(capsys, *again, "--scores", spoken / "scores.jsonl", "--text_scale", 0)
    assert (spoken / "again/text").read_text() == (spoken / "text").read_text()
    several = (*again, "--scores", spoken / "scores.jsonl", "--text_scale", 1, 0)
    found = uas_ctc(capsys, *several, "--text", spoken / "text")
    assert found["text_scale"] == 0 and found["wer"] == 0
    assert "takes references: give --text" in refused(capsys, *several)
    uas_ctc(capsys, "ngram", "--text", spoken / "text", "--order", 2, "--output", spoken / "g.arpa")
    found = uas_ctc(capsys, *again, "--arpa", spoken / "g.arpa", "--text", spoken / "text")
    assert found["wer"] == 0
    write_jsonl(spoken / "scores.jsonl", scores[1:])
    assert "has no score for" in refused(capsys, *again, "--scores", spoken / "scores.jsonl")


def test_a_graph_decodes_words_of_its_text_only(
    spoken: Path, capsys: Any, k2_backend: Backend
) -> None:
    (spoken / "other").write_text("x1 ab a\nx2 ab ab\nx3 a a ab\n")
    uas_ctc(capsys, "ngram", "--text", spoken / "other", "--output", spoken / "g.arpa")
    common = ("--posteriors", spoken / "posteriors", "--backend", k2_backend.kind)
    graph = spoken / "graph"
    built = uas_ctc(capsys, "graph", *common, "--arpa", spoken / "g.arpa", "--output", graph)
    assert built["words"] == 2 and built["arcs"] > 0
    found = uas_ctc(
        capsys, "decode", *common, "--graph", graph, "--text", spoken / "text",
        "--output", spoken / "out", "--search_beam", 100, "--output_beam", 50,
    )  # fmt: skip
    texts = dict(line.split(" ", 1) for line in (spoken / "out/text").read_text().splitlines())
    assert texts["u1"] == "ab a" and set(" ".join(texts.values()).split()) <= {"a", "ab"}
    assert 0 < found["wer"] < 1


def test_rescoring_with_an_audiollm(spoken: Path) -> None:
    """The scorer hands each utterance's audio and texts on, and asks for whole answers."""
    asked = []

    class Model:
        def score_choices(self, conversations: Any, choices: Any, *, whole: bool) -> Any:
            asked.append((conversations, choices, whole))
            return [[-float(len(text)) for text in choices[0]]]

    scorer = rescore.audiollm_scorer(Model(), {"u1": np.array([3, 1])})
    assert list(scorer("u1", ["ab", "a"])) == [-2.0, -1.0]
    ((conversations, choices, whole),) = asked
    assert whole and choices == [["ab", "a"]]
    assert conversations[0][0]["content"][0]["tokens"].tolist() == [3, 1]
    with pytest.raises(UASError, match="u2 has no audio tokens"):
        scorer("u2", ["a"])


def test_what_is_wrong_is_said_in_a_line(spoken: Path, capsys: Any) -> None:
    posteriors = ("--posteriors", spoken / "posteriors", "--backend", "torch")
    (spoken / "strange").write_text("u1 abc\nu2 bbbbb\nu4 a\n")
    said = refused(
        capsys, "align", *posteriors, "--text", spoken / "strange", "--output", spoken / "align"
    )
    assert "nothing could be aligned; u1: the model has no token c" in said
    (spoken / "strange").write_text("u1 ab a\nu2 bbbbb\nu4 a\n")
    found = uas_ctc(
        capsys, "align", *posteriors, "--text", spoken / "strange", "--output", spoken / "align"
    )
    assert found["aligned"] == 1
    reasons = [row["reason"] for row in read_jsonl(spoken / "align/left_out.jsonl")]
    assert reasons == ["u2: the text has more tokens than fit", "u4: there are no posteriors"]
    said = refused(capsys, "decode", "--posteriors", spoken / "nothing", "--output", spoken / "out")
    assert "no finished posteriors" in said
    (spoken / "graph").mkdir()
    (spoken / "graph/graph.json").write_text('{"words": ["<eps>", "a"]}')
    said = refused(
        capsys, "decode", *posteriors, "--graph", spoken / "graph", "--output", spoken / "out"
    )
    assert "needs k2: run local/install_k2.sh" in said
    with pytest.raises(UASError, match="comes twice"):
        one = np.zeros((1, len(NAMES)), dtype=np.float32)
        write_posteriors(spoken / "twice", [("u", one), ("u", one)], NAMES)
    with pytest.raises(UASError, match="NaN"):
        write_posteriors(spoken / "nan", [("u", one * np.nan)], NAMES)
    assert not (spoken / "twice/info.json").exists()


def test_the_named_interpreter_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(backends, "_here", lambda: None)
    monkeypatch.setenv(backends.VARIABLE, str(tmp_path / "python"))
    with pytest.raises(UASError, match="is no file"):
        backends.find_backend()
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho 1.24.4 2.13.0\n")
    fake.chmod(0o755)
    found = backends.find_backend()
    assert found == Backend("worker", fake, "1.24.4 2.13.0")
    assert found.describe() == f"k2 1.24.4, torch 2.13.0, as a process of {fake}"
    backends._ask.cache_clear()
    fake.write_text("#!/bin/sh\nexit 1\n")
    assert backends.find_backend().kind == "torch"
    with pytest.raises(UASError, match="install_k2.sh"):
        backends.find_backend("worker")
    backends._ask.cache_clear()
