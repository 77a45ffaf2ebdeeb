"""From the plan to FLAC files, by worker processes; restartable."""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np

from uas_plugin.atomic import atomic_path, write_text
from uas_plugin.data.synth import RATE
from uas_plugin.data.synth.plan import Clip
from uas_plugin.progress import progress

_PER_FOLDER = 500
_CHUNK = 16
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def audio_path(folder: Path, clip: Clip, index: int) -> Path:
    """Where the ``index``-th clip of the plan lies: at most 500 files a folder."""
    return folder / clip.split / f"{index // _PER_FOLDER:04d}" / f"{clip.id}.flac"


def render(clip: Clip) -> np.ndarray:
    """The samples of a clip, float32 at 16 kHz; they depend on the clip alone."""
    from uas_plugin.data.synth.music import render_music
    from uas_plugin.data.synth.sounds import render_sound
    from uas_plugin.data.synth.speech import limit, mix, render_speech, rms

    rng = np.random.default_rng(clip.seed)
    if clip.voice is not None:
        assert clip.text and clip.accent and clip.manner
        # Digits are read out one by one: a comma makes the engine pause.
        said = clip.text.replace(" ", ", ") if clip.kind == "digits" else clip.text
        speech = render_speech(said, clip.voice, clip.accent, clip.manner, rng)
        if clip.label is None:
            return speech
        assert clip.setting is not None and clip.snr_db is not None
        background = render_sound(clip.label, clip.setting, len(speech) / RATE + 0.01, rng)
        return mix(speech, background, clip.snr_db)
    assert clip.label and clip.setting and clip.seconds
    make = render_music if clip.kind == "music" else render_sound
    samples = make(clip.label, clip.setting, clip.seconds, rng)
    level = 0.08 * 2 ** rng.uniform(-0.5, 0.5)
    return limit(samples * min(level / max(rms(samples), 1e-9), 0.95))


def render_all(plan: Sequence[Clip], folder: Path, num_workers: int) -> list[tuple[Path, int]]:
    """Make what is not there yet; returns the path and number of samples of each clip.

    Files of another plan or of another version of the synthesizer are removed first. A file is
    complete or absent, so that a killed run goes on where it stopped.
    """
    keep_only(folder, fingerprint(plan))
    paths = [audio_path(folder, clip, index) for index, clip in enumerate(plan)]
    for parent in {path.parent for path in paths}:
        parent.mkdir(parents=True, exist_ok=True)
    jobs = list(zip(plan, paths, strict=True))
    chunks = [jobs[start : start + _CHUNK] for start in range(0, len(jobs), _CHUNK)]
    sizes: list[int] = []
    with (
        _one_thread_each(),
        # Fresh processes: espeak-ng is process-global, and forking needs a single thread.
        ProcessPoolExecutor(
            max_workers=max(1, min(num_workers, len(chunks))),
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_die_with_parent,
            initargs=(os.getpid(),),
        ) as pool,
    ):
        for part in progress(pool.map(_render_chunk, chunks), len(chunks), "synthesizing"):
            sizes.extend(part)
    return list(zip(paths, sizes, strict=True))


def fingerprint(plan: Sequence[Clip]) -> str:
    """A hash of the plan and of the code that renders it."""
    digest = hashlib.sha256()
    for clip in plan:
        digest.update(repr(asdict(clip)).encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def keep_only(folder: Path, wanted: str) -> None:
    """Empty ``folder`` unless it was begun under the same fingerprint; drop unfinished files."""
    mark = folder / "fingerprint.txt"
    if folder.exists() and not (mark.is_file() and mark.read_text().strip() == wanted):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.rglob(".*.tmp.*"):
        path.unlink(missing_ok=True)
    write_text(mark, wanted + "\n")


def _render_chunk(jobs: list[tuple[Clip, Path]]) -> list[int]:
    import soundfile

    sizes = []
    for clip, path in jobs:
        if path.is_file():
            sizes.append(soundfile.info(path).frames)
            continue
        samples = render(clip)
        with atomic_path(path) as temporary:
            soundfile.write(temporary, samples, RATE, subtype="PCM_16", format="FLAC")
        sizes.append(len(samples))
    return sizes


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Workers inherit the environment: one thread each, as they fork and share the cores."""
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _die_with_parent(parent: int) -> None:
    """Let the kernel end this worker when the main process is killed (Linux)."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:  # it died before the call above
            os._exit(1)
