"""Logs for programs: one JSON object a line, with the cut that a message is about."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest

from uas_plugin.logs import JsonLines

CODE = """
import logging
from uas_plugin.bin import run_main
from uas_plugin.errors import UASError
def main(words):
    logging.info("reading %d files", 3)
    logging.warning("cut a-1: the recording holds no samples")
    try:
        1 / 0
    except ZeroDivisionError:
        logging.exception("by zero")
    raise UASError("cut b/2: no such file")
run_main(main, [])
"""


def run(**environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CODE]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_every_line_is_an_object() -> None:
    done = run(UAS_LOG_FORMAT="json")
    assert done.returncode == 2
    rows = [json.loads(line) for line in done.stderr.splitlines()]
    assert [row["level"] for row in rows] == ["INFO", "WARNING", "ERROR", "ERROR"]
    assert rows[0]["message"] == "reading 3 files" and "cut" not in rows[0]
    assert rows[1]["cut"] == "a-1" and rows[1]["module"] == "<string>"
    assert "ZeroDivisionError" in rows[2]["traceback"] and rows[2]["line"] > 0
    assert rows[3]["cut"] == "b/2" and abs(rows[3]["time"] - rows[0]["time"]) < 60


def test_people_read_lines_and_the_mend_last() -> None:
    done = run(UAS_LOG_LEVEL="WARNING")
    lines = done.stderr.splitlines()
    assert " WARNING (<string>:7) cut a-1: the recording holds no samples" in lines[0]
    assert lines[-1] == "error: cut b/2: no such file"


@pytest.mark.parametrize(
    "message, cut",
    [
        ("cut x: gone", "x"),
        ("cut x has 2 supervisions, expected one", "x"),
        ("3 cuts left out", None),
        ("shortcut x: gone", None),
        ("out of cut", None),
    ],
)
def test_the_cut_is_found_where_one_is_named(message: str, cut: str | None) -> None:
    record = logging.LogRecord("n", logging.INFO, "m.py", 1, message, None, None)
    assert json.loads(JsonLines().format(record)).get("cut") == cut
