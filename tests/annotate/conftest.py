"""A server of its own for each test, cuts with captions, and how to run the command."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from uas_plugin.annotate.options import AnnotateOptions
from uas_plugin.atomic import read_jsonl
from uas_plugin.data.manifests import save_cuts

HERE = Path(__file__).parent


class Served:
    """The server's process, and the words to it."""

    def __init__(self, *arguments: str) -> None:
        self.arguments = arguments
        self.port = 0
        self.start()

    def start(self) -> None:
        """Start it, at its old port when it had one."""
        words = [*self.arguments, "--port", str(self.port)]
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "serve.py"), *words], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def _call(self, path: str, value: Any = None) -> dict[str, Any]:
        data = None if value is None else json.dumps(value).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data)
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)

    def control(self, **values: Any) -> None:
        self._call("/control", values)

    def stats(self) -> dict[str, Any]:
        """What was asked since the last call."""
        return self._call("/stats", {})


@pytest.fixture
def served() -> Iterator[Served]:
    server = Served()
    yield server
    server.stop()


@pytest.fixture
def kit(served: Served) -> SimpleNamespace:
    """The helpers below, with options that lead to the test's server."""
    return SimpleNamespace(
        make_cuts=make_cuts,
        options=lambda **values: options(served, **values),
        labelled=labelled,
        rejected=rejected,
        served=served,
    )


@pytest.fixture(name="make_cuts")
def make_cuts_() -> Callable[..., Path]:
    """``make_cuts`` of this file."""
    return make_cuts


def make_cuts(path: Path, captions: Sequence[str | None], audio: Path | None = None) -> Path:
    """A manifest of clips of 2 s: even ones with speech."""
    from lhotse import AudioSource, MonoCut, Recording, SupervisionSegment

    def cuts() -> Iterator[Any]:
        for number, caption in enumerate(captions):
            id = f"clip{number:05d}"
            source = AudioSource("file", [0], str(audio or "absent.wav"))
            custom = {"kind": "speech"} | ({} if caption is None else {"caption": caption})
            text = "" if number % 2 else f"sentence number {number}"
            yield MonoCut(
                id=id, start=0.0, duration=2.0, channel=0,
                recording=Recording(id, [source], 16000, 32000, 2.0),
                supervisions=[
                    SupervisionSegment(id, id, 0.0, 2.0, text=text, language="en", custom=custom)
                ],
            )  # fmt: skip

    save_cuts(cuts(), path)
    return path


def options(served: Served, **values: Any) -> AnnotateOptions:
    """Options that do not wait long."""
    fast = {"backoff_s": 0.01, "timeout_s": 5.0, "shard_size": 10, "concurrency": 8, "retries": 3}
    return AnnotateOptions(url=served.url, model="made-up", **{**fast, **values})


def labelled(folder: Path) -> dict[str, dict[str, Any]]:
    """Custom fields of the accepted cuts by id."""
    rows = read_jsonl(folder / "cuts.jsonl.gz")
    return {row["id"]: row["supervisions"][0]["custom"] for row in rows}


def rejected(folder: Path) -> dict[str, dict[str, Any]]:
    """Rejected rows by id."""
    return {row["id"]: row for row in read_jsonl(folder / "rejected.jsonl")}
