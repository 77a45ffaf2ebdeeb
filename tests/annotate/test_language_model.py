"""A real causal language model behind the server, constrained by the schema that we send."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from uas_plugin.annotate.options import AnnotateOptions
from uas_plugin.annotate.run import annotate
from uas_plugin.atomic import read_jsonl
from uas_plugin.schema.text import validate

pytest.importorskip("openai")


@pytest.mark.slow
def test_constrained_answers_fit_the_schema(tmp_path: Path, make_cuts: Any) -> None:
    """Its babble never fails as JSON or schema; only what a schema cannot say is rejected."""
    cuts = make_cuts(tmp_path / "cuts.jsonl.gz", [f"A dog barks {n} times." for n in range(60)])
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("lm_serve.py"))],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        options = AnnotateOptions(
            url=url, model="tiny", temperature=1.0, concurrency=4, asks=1, response_format="auto"
        )
        report = annotate(cuts, tmp_path / "out", options)
    finally:
        process.kill()
        process.wait()
    rows = list(read_jsonl(tmp_path / "out" / "rejected.jsonl"))
    rules = Counter(row["category"] for row in rows)
    assert set(rules) <= {"transcript", "consistency"}, rules
    assert all("null when" in row["reason"] for row in rows if row["category"] == "consistency")
    labels = [
        row["supervisions"][0]["custom"] for row in read_jsonl(tmp_path / "out" / "cuts.jsonl.gz")
    ]
    assert labels and report["accepted"] == len(labels), "clips without speech can be right"
    for custom in labels:
        assert validate(custom["uas"]).transcription is None
        assert custom["uas_source"]["response_format"] == "json_schema"
    assert report["cost"]["all_runs"][0]["completion_tokens"] > 100 * 60
