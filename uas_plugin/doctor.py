"""``uas doctor``: is this installation able to run the recipes, and if not, what mends it?"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from uas_plugin.bin import make_parser

DISTRIBUTION = "uas_plugin"
# extra -> the verbs or stages that need it; what is not named here is for developers
EXTRAS = {
    "espnet": "training stages",
    "workflow": "recipes (run.sh, snakemake)",
    "slurm": "snakemake --profile slurm",
    "dev": "tests",
    "k2": "k2 graph decoding",
    "judges": "uas evaluate reconstruction, uas speaker",
    "pesq": "PESQ in uas evaluate reconstruction",
}
REQUIRED_EXTRAS = ("espnet", "workflow")
NEEDED_GIB = 2.0
SETUP = "run local/setup.sh"


@dataclass
class Check:
    """One line of the report. ``status`` is "ok", "optional" (missing, not needed) or "problem"."""

    name: str
    status: str
    value: str
    mend: str = ""
    seconds: float | None = None


def _requirement_name(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    return match.group() if match else requirement


def requirements() -> dict[str, list[str]]:
    """Distribution names by extra of this package; the key "" holds what is always needed."""
    found: dict[str, list[str]] = {"": []}
    for line in metadata.requires(DISTRIBUTION) or []:
        extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", line)
        found.setdefault(extra.group(1) if extra else "", []).append(_requirement_name(line))
    return found


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def check_packages() -> Iterable[Check]:
    """Versions from the metadata; nothing is imported."""
    for extra, names in requirements().items():
        needed = extra == "" or extra in REQUIRED_EXTRAS
        for name in sorted(names, key=str.lower):
            version = _version(name)
            if version:
                yield Check(name, "ok", version)
            elif needed:
                yield Check(name, "problem", "missing", SETUP)
            else:
                purpose = EXTRAS.get(extra, extra)
                yield Check(name, "optional", f"missing; for {purpose}", f"{SETUP} --extra {extra}")


def _import_check(name: str, note: str, load: Callable[[], Any]) -> Check:
    start = time.perf_counter()
    try:
        value = load()
    except Exception as error:  # whatever a broken binary package raises is the finding
        reason = str(error).strip().splitlines() or [type(error).__name__]
        return Check(f"import {name}", "problem", reason[0], SETUP)
    return Check(f"import {name}", "ok", value or note, seconds=time.perf_counter() - start)


def _import_torchaudio() -> str:
    from uas_plugin.compat import prepare_torchaudio

    compiled = prepare_torchaudio()
    version = importlib.import_module("torchaudio").__version__
    return version if compiled else f"{version}, without its compiled extension (not needed)"


def check_imports() -> Iterable[Check]:
    """Import what is heavy and binary, in the order in which the stages do."""
    yield _import_check("torch", "", lambda: importlib.import_module("torch").__version__)
    yield _import_check("torchaudio", "", _import_torchaudio)
    yield _import_check("lhotse", "", lambda: importlib.import_module("lhotse").__version__)

    def espnet() -> str:
        importlib.import_module("espnet2.tasks.abs_task")
        return "training tasks load; slow, and only training does it"

    yield _import_check("espnet2", "", espnet)


def check_devices() -> Iterable[Check]:
    """Processors and accelerators."""
    threads = os.environ.get("OMP_NUM_THREADS", "unset")
    yield Check("cpu", "ok", f"{len(os.sched_getaffinity(0))} cores, OMP_NUM_THREADS {threads}")
    if importlib.util.find_spec("torch") is None:
        return
    try:
        import torch
    except Exception:  # reported by check_imports
        return
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        yield Check("gpu", "ok", f"{', '.join(names)} (CUDA {torch.version.cuda})")
    elif shutil.which("nvidia-smi"):
        built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU"
        text = f"nvidia-smi is here, but this torch (built for {built}) cannot use the GPU"
        yield Check("gpu", "optional", text, "run local/setup.sh --torch cuda, or mend the driver")
    else:
        yield Check("gpu", "ok", "none; everything runs on the CPU")


def check_espeak() -> Check:
    """The synthesizer of the ``mini`` corpus: a library in a wheel, so loading it is the proof."""
    import ctypes

    try:
        import espeakng_loader

        library = ctypes.CDLL(espeakng_loader.get_library_path())
        library.espeak_Info.restype = ctypes.c_char_p
        version = library.espeak_Info(None).decode()
    except (ImportError, OSError, AttributeError) as error:
        return Check("espeak-ng", "problem", str(error), SETUP)
    if not Path(espeakng_loader.get_data_path()).is_dir():
        return Check("espeak-ng", "problem", "its voice data is missing", SETUP)
    return Check("espeak-ng", "ok", version)


def check_sentencepiece() -> Check:
    """The text tokenizer's binary part."""
    try:
        import sentencepiece

        sentencepiece.SentencePieceProcessor()
    except (ImportError, OSError) as error:
        return Check("sentencepiece works", "problem", str(error), SETUP)
    return Check("sentencepiece works", "ok", sentencepiece.__version__)


def check_k2() -> Check:
    """Where `uas ctc` finds k2."""
    from uas_plugin.ctc.backend import INSTALL, find_backend
    from uas_plugin.errors import UASError

    try:
        backend = find_backend()
    except UASError as error:
        return Check("uas ctc", "problem", str(error), "unset it, or name another Python")
    if backend.kind == "torch":
        return Check("uas ctc", "optional", "without k2: no graphs, no HLG", f"run {INSTALL}")
    return Check("uas ctc", "ok", backend.describe())


def cache_dir() -> Path:
    """Where hub downloads go: HF_HOME, else below the user's cache folder."""
    fallback = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "huggingface"
    return Path(os.environ.get("HF_HOME", fallback)).expanduser()


def check_cache() -> Check:
    """A file can be made in the cache folder."""
    folder = cache_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        mend = "set HF_HOME to a folder that you may write to"
        return Check("cache", "problem", f"{folder}: {error.strerror}", mend)
    return Check("cache", "ok", str(folder))


def check_disk() -> Check:
    """Free space where the command is run, which is where recipes write."""
    free = shutil.disk_usage(".").free / 2**30
    text = f"{free:.1f} GiB free in the current folder"
    if free < NEEDED_GIB:
        return Check("disk", "problem", text, f"free at least {NEEDED_GIB:.0f} GiB")
    return Check("disk", "ok", text)


def check_python() -> Check:
    """The interpreter, and whether it is in a virtual environment."""
    kind = "virtual environment" if sys.prefix != sys.base_prefix else "no virtual environment"
    return Check("python", "ok", f"{platform.python_version()}, {kind}")


def diagnose(*, imports: bool = True) -> list[Check]:
    """All checks, in the order in which they are printed."""
    checks = [check_python(), *check_packages()]
    if imports:
        checks += [*check_imports(), *check_devices(), check_sentencepiece(), check_k2()]
    return [*checks, check_espeak(), check_cache(), check_disk()]


def as_text(checks: Sequence[Check]) -> str:
    """The report for people: a table, then the problems with their mends."""
    width = max(len(check.name) for check in checks)
    marks = {"ok": "ok      ", "optional": "optional", "problem": "PROBLEM "}
    lines = []
    for check in checks:
        seconds = f"  ({check.seconds:.1f} s)" if check.seconds is not None else ""
        lines.append(f"{marks[check.status]}  {check.name:<{width}}  {check.value}{seconds}")
    problems = [check for check in checks if check.status == "problem"]
    lines.append("")
    for check in problems:
        lines.append(f"{check.name}: {check.value}. To mend it: {check.mend}.")
    lines.append(f"{len(problems)} problem(s)." if problems else "No problems.")
    return "\n".join(lines)


def main(argv: Sequence[str]) -> None:
    """Print the report; exit with 1 when something that is needed does not work."""
    parser = make_parser(
        "Check this installation: versions, devices, optional parts, cache, disk.",
        "uas doctor\nuas doctor --json --no_imports",
    )
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    parser.add_argument(
        "--no_imports",
        action="store_true",
        help="only look at installed versions; skip importing torch and ESPnet (half a minute)",
    )
    options = parser.parse_args(list(argv))
    checks = diagnose(imports=not options.no_imports)
    healthy = all(check.status != "problem" for check in checks)
    if options.json:
        print(json.dumps({"ok": healthy, "checks": [asdict(check) for check in checks]}, indent=2))
    else:
        print(as_text(checks))
    if not healthy:
        raise SystemExit(1)
