"""Unit edit distance against the release's, on every golden case there is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from uas_plugin.metrics.ued import corpus_edits, corpus_ued, plain_mean, unit_edits

TOLERANCE = 1e-12


@pytest.fixture(scope="module")
def folder(golden_root: Path) -> Path:
    return golden_root / "stabletoken"


@pytest.fixture(scope="module")
def ued_set(folder: Path) -> dict:
    path = folder / "ued.json"
    if not path.exists():
        pytest.skip(f"no golden set {path}")
    return json.loads(path.read_text(encoding="utf-8"))


def pairs_of(case: dict) -> tuple[list[list[int]], list[list[int]]]:
    """Both sides; the release cut them to the shorter list, which we refuse to do."""
    clean, noisy = case["clean"], case["noisy"]
    if len(clean) != len(noisy):
        with pytest.raises(ValueError, match="one noisy view a clip"):
            corpus_edits(clean, noisy)
    count = min(len(clean), len(noisy))
    return clean[:count], noisy[:count]


def test_there_are_cases(ued_set):
    assert ued_set["cases"]


def test_corpus(ued_set):
    for name, case in ued_set["cases"].items():
        pairs = pairs_of(case)
        if "error" in case:
            assert case["error"][0] == "ValueError", name
            with pytest.raises(ValueError, match="at least one clean token"):
                corpus_edits(*pairs)
        else:
            found = corpus_ued(corpus_edits(*pairs))
            assert found == pytest.approx(case["corpus"], abs=TOLERANCE), name


def test_each_pair(ued_set):
    for name, case in ued_set["cases"].items():
        pairs = list(zip(*pairs_of(case), strict=True))
        assert len(pairs) == len(case["per_utterance"]), name
        for (clean, noisy), wanted in zip(pairs, case["per_utterance"], strict=True):
            if isinstance(wanted, list):
                assert wanted[0] == "ValueError", name
                with pytest.raises(ValueError, match="at least one clean token"):
                    unit_edits(clean, noisy)
            else:
                found = unit_edits(np.array(clean), np.array(noisy, np.int64)).ued
                assert found == pytest.approx(wanted, abs=TOLERANCE), name


def test_end_to_end(ued_set, folder):
    """The release's own evaluation: waveforms to tokens to the mean of two languages."""
    waves = folder / "waveforms.npz"
    variants = {
        name: wanted
        for name, wanted in ued_set.get("end_to_end", {}).items()
        if (folder / "encoder" / name / "model.safetensors").exists()
    }
    if not variants or not waves.exists():
        pytest.skip(f"no golden waveforms and encoders in {folder}")
    from uas_plugin import load_tokenizer

    with np.load(waves) as stored:
        sound = {key: stored[key] for key in ("w0", "w1", "w2", "n0", "n1", "n2")}
    for name, wanted in variants.items():
        tokenizer = load_tokenizer(folder / "encoder" / name)

        def ued(rows: tuple[int, ...], left_out: int, tokenizer=tokenizer) -> float:
            clean = [sound[f"w{k}"] for k in rows]
            noisy = [sound[f"n{k}"][: len(sound[f"n{k}"]) - left_out] for k in rows]
            ids = [tokenizer.encode([(x, 16000) for x in part], 1) for part in (clean, noisy)]
            return corpus_ued(corpus_edits(*ids))

        english, chinese = ued((0, 1, 2), 0), ued((1, 2, 0), 4000)
        assert english == pytest.approx(wanted["ued_en"], abs=TOLERANCE), name
        assert chinese == pytest.approx(wanted["ued_zh"], abs=TOLERANCE), name
        average = plain_mean({"en": english, "zh": chinese})
        assert average == pytest.approx(wanted["ued_avg"], abs=TOLERANCE), name
