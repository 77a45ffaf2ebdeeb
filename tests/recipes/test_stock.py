"""End to end: asr2 and tts2 at size=smoke, on the tokens of the smoke run of uas1."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow

RECIPES = Path(__file__).parents[2] / "egs" / "mini"


def run(recipe: str, *words: str) -> str:
    command = [str(RECIPES / recipe / "run.sh"), "size=smoke", *words]
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def asr2(smoke, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished asr2 run."""
    out = tmp_path_factory.mktemp("asr2")
    run("asr2", "--source", str(smoke.exp), "--expdir", str(out))
    return out


def figures(path: Path) -> dict[str, float]:
    return {row["id"]: row["value"] for row in json.loads(path.read_text())["figures"]}


def test_asr2_is_scored_beside_its_baselines(smoke, asr2: Path) -> None:
    found = figures(asr2 / "mini" / "score" / "scores.json")
    systems = {name.split(".")[0] for name in found}
    assert systems == {"asr2", "asr2_shuffled", "untrained", "logmel"}
    assert all(np.isfinite(value) for value in found.values())
    table = (asr2 / "RESULTS.md").read_text()
    assert "## Corpus mini" in table and "log-mel" in table
    assert "nothing to do" in run("asr2", "--source", str(smoke.exp), "--expdir", str(asr2))


def test_tts2_is_rendered_and_judged(smoke, asr2: Path, tmp_path: Path) -> None:
    words = ("--source", str(smoke.exp), "--judge", str(asr2), "--expdir", str(tmp_path))
    run("tts2", *words)
    exp = tmp_path / "mini"
    for name in ("train", "dev"):
        units = dict(line.split(" ", 1) for line in (exp / "data" / name / "text.km.uas").open())
        for line in (exp / "data" / name / "durations").open():
            utt, *values = line.split()
            assert sum(map(int, values)) == len(units[utt].split())
    found = figures(exp / "score" / "scores.json")
    systems = {name.split(".")[0] for name in found}
    arms = {f"{form}_{arm}" for form in ("audio", "tokens") for arm in ("tts", "real", "untrained")}
    assert systems == {*arms, "audio_tts_shuffled"}
    page = (exp / "report" / "report.html").read_text(encoding="utf-8")
    assert page.count("<audio") == 4 and "Untrained TTS, rendered" in page
    assert "nothing to do" in run("tts2", *words)
