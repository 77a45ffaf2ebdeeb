"""The ``uas`` command, what importing the package costs, and ``uas doctor``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import pytest

import uas_plugin
from uas_plugin import cli, doctor
from uas_plugin.doctor import Check

HEAVY = ("torch", "torchaudio", "espnet2", "transformers", "lhotse", "hydra", "matplotlib", "numpy")


def run(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=300, **options
    )


def uas(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return run("-m", "uas_plugin.cli", *arguments, **options)


@pytest.mark.parametrize(
    "statement",
    [
        "import uas_plugin",
        "import uas_plugin.cli",
        "from uas_plugin import cli; cli.main(['--help'])",
        "from uas_plugin import cli; cli.main(['doctor', '--json', '--no_imports'])",
    ],
)
def test_nothing_heavy_is_imported(statement: str) -> None:
    code = (
        f"{statement}\nimport sys\nprint([m for m in {HEAVY} if m in sys.modules], file=sys.stderr)"
    )
    done = run("-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "[]"


def test_help_is_quick() -> None:
    command = Path(sys.executable).with_name("uas")
    durations = []
    for _ in range(3):  # the best of three: the bound is for the command, not for a busy machine
        start = time.perf_counter()
        done = subprocess.run([command, "--help"], capture_output=True, text=True)
        durations.append(time.perf_counter() - start)
    assert done.returncode == 0
    assert "example:" in done.stdout
    assert all(verb in done.stdout for verb in cli.VERBS)
    assert min(durations) < 0.5


@pytest.mark.parametrize("verb", sorted(cli.VERBS))
def test_every_verb_has_help_with_an_example(verb: str) -> None:
    done = uas(verb, "--help")
    assert done.returncode == 0, done.stderr
    assert f"usage: uas {verb}" in done.stdout
    assert f"uas {verb}" in done.stdout.split("example", 1)[1]


def test_unknown_verb_is_one_line_with_the_nearest() -> None:
    done = uas("tokenise")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: unknown verb 'tokenise'. Did you mean 'tokenize'?")
    assert done.stderr.count("\n") == 1


def test_unknown_option_names_the_nearest() -> None:
    done = uas("doctor", "--jsno")
    assert done.returncode == 2
    assert "Did you mean '--json'?" in done.stderr
    assert done.stderr.count("\n") == 1


def test_version() -> None:
    assert uas("--version").stdout == f"uas {uas_plugin.__version__}\n"
    assert metadata.version("uas_plugin") == uas_plugin.__version__


def test_public_names_resolve() -> None:
    assert set(uas_plugin._LAZY) == set(uas_plugin.__all__)
    for name in uas_plugin.__all__:
        assert getattr(uas_plugin, name) is not None
        assert name in dir(uas_plugin)
    with pytest.raises(AttributeError, match="load_tokeniser"):
        _ = uas_plugin.load_tokeniser


# --- doctor ------------------------------------------------------------------------------------


def test_doctor_is_content_with_this_installation() -> None:
    done = uas("doctor", "--json", "--no_imports")
    assert done.returncode == 0, done.stdout
    report = json.loads(done.stdout)
    assert report["ok"] is True
    checks = {check["name"]: check for check in report["checks"]}
    assert {"python", "torch", "espnet", "snakemake", "espeak-ng", "cache", "disk"} <= set(checks)
    assert checks["torch"]["value"] == metadata.version("torch")
    for check in checks.values():
        assert set(check) == {"name", "status", "value", "mend", "seconds"}
        assert check["status"] in ("ok", "optional", "problem")
        assert (check["mend"] == "") == (check["status"] == "ok")


def test_doctor_tells_an_unwritable_cache(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    done = uas("doctor", "--no_imports", env=os.environ | {"HF_HOME": str(blocker / "cache")})
    assert done.returncode == 1
    assert "set HF_HOME" in done.stdout
    assert done.stdout.endswith("1 problem(s).\n")


def test_doctor_tells_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = {"torch", "snakemake", "k2", "pytest"}
    known = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name in gone else known(name))
    checks = {check.name: check for check in doctor.check_packages()}
    assert checks["torch"].status == checks["snakemake"].status == "problem"
    assert checks["k2"].status == checks["pytest"].status == "optional"
    assert checks["pytest"].mend == "run local/setup.sh --extra dev"
    assert checks["numpy"].status == "ok"


def test_doctor_tells_a_broken_import() -> None:
    def load() -> str:
        raise OSError("libcudart.so.13: cannot open shared object file\nmore")

    check = doctor._import_check("torchaudio", "", load)
    assert check == Check(
        "import torchaudio",
        "problem",
        "libcudart.so.13: cannot open shared object file",
        "run local/setup.sh",
    )


def test_doctor_imports_for_real() -> None:
    devices = {check.name: check.status for check in doctor.check_devices()}
    assert devices["cpu"] == "ok"
    assert "gpu" in devices
    assert doctor.check_sentencepiece().status == "ok"
    assert doctor.check_espeak().status == "ok"
