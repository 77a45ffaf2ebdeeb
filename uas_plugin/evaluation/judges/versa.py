"""VERSA (arXiv 2412.17667) as a back end: any of its metrics, where it is installed.

It is started as its own command, in a process of its own, on files: so its many packages do not
come into this process, and its versions may change what they do inside.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uas_plugin.errors import UASError
from uas_plugin.evaluation.judges.measure import RATE, Item, Measure, split_spec

WHERE = "https://github.com/wavlab-speech/versa"


class Versa(Measure):
    """All utterance metrics of one of VERSA's score configurations, beside the recording.

    Args:
        config: its YAML file. device: torch device.

    A value is ``{metric: number}``; what VERSA gives beside numbers is left out.
    """

    name = "versa"
    packages = ("versa",)
    extra = ""
    main_process = True
    chunk = 512  # it loads its models each time it is started

    def __init__(self, config: str = "", device: str = "cpu") -> None:
        self.config, self.device = config, device

    def check(self) -> None:
        if not Path(self.config).is_file():
            raise UASError(
                f"versa needs one of its score configurations: versa=FILE.yaml, not "
                f"'{self.config}' (they lie in egs/ of {WHERE})"
            )
        super().check()

    def settings(self) -> dict[str, Any]:
        from uas_plugin.provenance import file_sha256

        return {**super().settings(), "config_sha256": file_sha256(self.config)}

    def measure(self, items: Sequence[Item]) -> list[Any]:
        with tempfile.TemporaryDirectory(prefix="versa-") as name:
            folder = Path(name)
            made = _write(folder / "made", [item.made.wave() for item in items])
            words = ["--pred", str(made)]
            if all(item.reference is not None for item in items):
                waves = [item.reference.wave() for item in items if item.reference is not None]
                words += ["--gt", str(_write(folder / "reference", waves))]
            output = folder / "scores.jsonl"
            self._run([*words, "--output_file", str(output)])
            found = _read(output)
        if len(found) != len(items):
            raise UASError(f"versa scored {len(found)} of {len(items)} clips; see its messages")
        return [found[_key(place)] for place in range(len(items))]

    def _run(self, words: Sequence[str]) -> None:
        gpu = ["--use_gpu", "true"] if self.device.startswith("cuda") else []
        command = [
            sys.executable, "-m", "versa.bin.scorer", "--score_config", self.config,
            "--io", "soundfile", *words, *gpu,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            raise UASError(f"versa failed: {lines[-1]}")


def back_end(spec: str, device: str = "cpu") -> Versa:
    """VERSA by ``versa=FILE.yaml``.

    Raises:
        UASError: unknown name.
    """
    return Versa(split_spec(spec, (Versa.name,), "back end")[1], device)


def _key(place: int) -> str:
    return f"clip{place:06d}"


def _write(folder: Path, waves: Sequence[np.ndarray]) -> Path:
    """Waveforms as files, and their list in Kaldi's manner."""
    import soundfile

    folder.mkdir()
    lines = []
    for place, wave in enumerate(waves):
        path = folder / f"{_key(place)}.wav"
        soundfile.write(path, wave, RATE, subtype="FLOAT")
        lines.append(f"{_key(place)} {path}\n")
    listed = folder / "wav.scp"
    listed.write_text("".join(lines), encoding="utf-8")
    return listed


def _read(path: Path) -> dict[str, dict[str, float]]:
    """Numbers of each clip by its key.

    Raises:
        UASError: the file is missing, or is not what VERSA writes.
    """
    found = {}
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            key = row.pop("key")
            found[key] = {
                name: float(value)
                for name, value in row.items()
                if isinstance(value, (int, float)) and not isinstance(value, bool)
            }
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise UASError(f"versa wrote no scores that can be read: {error!r}") from None
    return found
