from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

_PATH = Path(__file__).resolve().parents[1] / "evaluation" / "made_run.py"
_SPEC = importlib.util.spec_from_file_location("made_run", _PATH)
made_run = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(made_run)


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A made-up run with scores and training events."""
    from uas_plugin.bin.score import main

    whole = made_run.MadeRun(tmp_path_factory.mktemp("run") / "egs" / "mini" / "uas1")
    whole.events()
    main(whole.score_arguments())
    return whole


@pytest.fixture(scope="session")
def page(run):
    """The report of the made-up run, written by the stage's command."""
    from uas_plugin.bin.report import main

    path = run.exp / "report" / "report.html"
    main([
        "--config", str(run.exp / "conf" / "report.yaml"), "--data_dir", str(run.data),
        "--dump_dir", str(run.dump), "--exp_dir", str(run.exp), "--output", str(path),
    ])  # fmt: skip
    return path
