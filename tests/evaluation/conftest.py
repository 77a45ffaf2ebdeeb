from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

_SPEC = importlib.util.spec_from_file_location("made_run", Path(__file__).with_name("made_run.py"))
made_run = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(made_run)


@pytest.fixture
def run(tmp_path):
    """A made-up finished run that the test may change."""
    return made_run.MadeRun(tmp_path / "egs" / "mini" / "uas1")


@pytest.fixture(scope="session")
def scores(tmp_path_factory):
    """Scores of an unchanged made-up run."""
    import json

    from uas_plugin.bin.score import main

    whole = made_run.MadeRun(tmp_path_factory.mktemp("run") / "egs" / "mini" / "uas1")
    main(whole.score_arguments())
    return json.loads((whole.exp / "score" / "scores.json").read_text(encoding="utf-8"))
