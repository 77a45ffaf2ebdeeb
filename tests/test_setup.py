"""local/setup.sh and its parts, against a stand-in for uv that installs nothing."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Logs its arguments; `venv` makes a "python" that accepts anything; what the indexes have is told
# by HAS_CPU_WHEEL and HAS_BACKEND; DIE_AT=install kills the caller as `kill -9` would.
FAKE_UV = """#!/usr/bin/env bash
echo "$*" >>"$UV_LOG"
case "$*" in
  *--help*) echo "--torch-backend" ;;
  venv*)
    target="${@: -1}"
    mkdir -p "$target/bin"
    printf '#!/usr/bin/env bash\\ncat >/dev/null\\n' >"$target/bin/python"
    chmod +x "$target/bin/python" ;;
  *--dry-run*--torch-backend*) [ -n "$HAS_BACKEND" ] ;;
  *--dry-run*+cpu*) [ -n "$HAS_CPU_WHEEL" ] ;;
  *"pip install"*)
    if [ "$DIE_AT" = install ]; then touch "$PWD/.venv/half"; kill -9 $PPID; fi
    exit "${UV_STATUS:-0}" ;;
esac
"""


class Checkout:
    """A folder with what setup.sh needs, and the fake uv as the only one on PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "local").mkdir(parents=True)
        for name in ("local/setup.sh", "local/pip_to_uv.py", "pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, folder / name)
        tools = folder / "tools"
        tools.mkdir()
        # The user's pip settings are looked at in tests of their own.
        for name, script in (("uv", FAKE_UV), ("python3", "#!/usr/bin/env bash\n")):
            (tools / name).write_text(script)
            (tools / name).chmod(0o755)
        self.log = folder / "uv.log"
        self.venv = folder / ".venv"
        self.marker = self.venv / ".uas-complete"

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        self.log.write_text("")
        base = {key: value for key, value in os.environ.items() if not key.startswith("UV_")}
        paths = f"{self.folder / 'tools'}:{base['PATH']}"
        defaults = {"HAS_CPU_WHEEL": "", "HAS_BACKEND": "", "DIE_AT": ""}
        return subprocess.run(
            ["bash", str(self.folder / "local/setup.sh"), *arguments],
            env=base | defaults | {"PATH": paths, "UV_LOG": str(self.log)} | environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def installed(self) -> str:
        """The one real installation of the last run."""
        lines = [
            line
            for line in self.log.read_text().splitlines()
            if "--editable" in line and "--dry-run" not in line
        ]
        assert len(lines) == 1, self.log.read_text()
        return lines[0]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "checkout")


def test_second_run_does_nothing(checkout: Checkout) -> None:
    first = checkout.run("--torch", "cpu", HAS_CPU_WHEEL="1")
    assert first.returncode == 0, first.stderr
    assert "espnet,slurm,workflow" in checkout.installed()
    for arguments in ((), ("--torch", "cpu"), ("--extra", "workflow")):
        again = checkout.run(*arguments)
        assert again.returncode == 0
        assert checkout.log.read_text() == ""
        assert again.stderr == ""


def test_an_extra_is_added_and_kept(checkout: Checkout) -> None:
    checkout.run("--torch", "cpu")
    checkout.run("--dev")
    assert "annotate,deepspeed,dev,espnet,judges,serve,slurm,workflow" in checkout.installed()
    checkout.run()
    assert checkout.log.read_text() == ""


def test_changed_pins_are_installed_in_place(checkout: Checkout) -> None:
    checkout.run("--torch", "cpu")
    with open(checkout.folder / "constraints.txt", "a") as stream:
        stream.write("# changed\n")
    checkout.run()
    checkout.installed()
    assert not any(line.startswith("venv") for line in checkout.log.read_text().splitlines())


@pytest.mark.parametrize(
    ("reach", "expected"),
    [
        ({"HAS_CPU_WHEEL": "1", "HAS_BACKEND": "1"}, r"torch==[\d.]+\+cpu"),
        ({"HAS_BACKEND": "1"}, "--torch-backend cpu"),
    ],
)
def test_cpu_torch_comes_from_where_it_is(
    checkout: Checkout, reach: dict[str, str], expected: str
) -> None:
    assert checkout.run("--torch", "cpu", **reach).returncode == 0
    assert re.search(expected, checkout.installed())


def test_without_a_cpu_build_the_index_decides(checkout: Checkout) -> None:
    done = checkout.run("--torch", "cpu")
    assert "no CPU build" in done.stderr
    assert "cpu" not in checkout.installed().split("constraints.txt")[1]


def test_cuda_torch_is_not_replaced_by_a_cpu_wheel(checkout: Checkout) -> None:
    checkout.run("--torch", "cuda", HAS_CPU_WHEEL="1")
    line = checkout.installed()
    assert re.search(r"torch==([\d.]+),!=\1\+cpu", line)
    assert re.search(r"torchaudio==([\d.]+),!=\1\+cpu", line)


@pytest.mark.parametrize(("works", "expected"), [("exit 0", "cuda"), ("exit 9", "cpu")])
def test_auto_asks_nvidia_smi(checkout: Checkout, works: str, expected: str) -> None:
    smi = checkout.folder / "tools/nvidia-smi"
    smi.write_text(f"#!/usr/bin/env bash\n{works}\n")
    smi.chmod(0o755)
    checkout.run("--torch", "auto")
    assert f"torch={expected}\n" in checkout.marker.read_text()


def test_killed_while_installing_starts_anew(checkout: Checkout) -> None:
    killed = checkout.run("--torch", "cpu", DIE_AT="install")
    assert killed.returncode == -signal.SIGKILL
    assert (checkout.venv / "half").exists()
    assert not checkout.marker.exists()
    done = checkout.run("--torch", "cpu")
    assert done.returncode == 0, done.stderr
    assert not (checkout.venv / "half").exists()
    assert checkout.marker.exists()
    assert checkout.run().stderr == ""


@pytest.mark.parametrize("status", ["1", "2"])
def test_failed_installation_is_told_and_not_marked(checkout: Checkout, status: str) -> None:
    failed = checkout.run("--torch", "cpu", UV_STATUS=status)
    assert failed.returncode == 1
    assert "installation failed" in failed.stderr
    assert not checkout.marker.exists()


def test_what_cannot_be_resolved_leaves_the_environment_usable(checkout: Checkout) -> None:
    checkout.run("--torch", "cpu")
    before = checkout.marker.read_text()
    failed = checkout.run("--extra", "k2", UV_STATUS="1")
    assert failed.returncode == 1
    assert "k2 wheels fit one torch version" in failed.stderr
    assert checkout.marker.read_text() == before
    checkout.run()
    assert checkout.log.read_text() == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--torhc", "cpu"], "unknown option '--torhc'"),
        (["--torch", "tpu"], "none of: cpu cuda auto"),
        (["--extra", "k3"], "no extra 'k3'"),
        (["--torch"], "wants a value"),
    ],
)
def test_wrong_options_are_one_line(checkout: Checkout, arguments: list[str], message: str) -> None:
    done = checkout.run(*arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not checkout.venv.exists()


# --- pip's settings for uv ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def pip_to_uv():
    spec = importlib.util.spec_from_file_location("pip_to_uv", ROOT / "local/pip_to_uv.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_environment_wins_over_files(pip_to_uv) -> None:
    listing = (
        "global.index-url='https://a.example/simple'\n"
        "global.find-links='\\n/a\\n/b'\n"
        ":env:.find-links='/c'\n"
        "install.index-url='https://b.example/simple'\n"
        ":env:.default-timeout='180'\n"
        "list.format='columns'\n"
    )
    assert pip_to_uv.parse_config_list(listing) == {
        "index-url": "https://b.example/simple",
        "find-links": "/c",
        "timeout": "180",
    }


def test_lines_for_the_shell(pip_to_uv, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wheels").mkdir()
    settings = {
        "find-links": "\nwheels\nhttps://w.example/x y",
        "index-url": "https://main.example/simple",
        "extra-index-url": "https://u:p@a.example/simple https://b.example/simple",
        "no-index": "true",
    }
    lines = pip_to_uv.shell_lines(settings, {})
    script = "\n".join(["uv_flags=()", *lines, 'echo "$UV_FIND_LINKS|$UV_INDEX|${uv_flags[*]}"'])
    shown = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    links, indexes, flags = shown.stdout.strip().split("|")
    assert links == f"{tmp_path / 'wheels'},https://w.example/x,y"
    assert indexes == f"https://main.example/simple {settings['extra-index-url']}"
    assert flags == "--no-index"
    assert "export UV_INDEX_STRATEGY=unsafe-best-match" in lines


def test_pip_variables_reach_uv(tmp_path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("UV_")}
    done = subprocess.run(
        [sys.executable, str(ROOT / "local/pip_to_uv.py")],
        env=environment | {"PIP_FIND_LINKS": "https://w.example/x", "PIP_DEFAULT_TIMEOUT": "99"},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert "export UV_FIND_LINKS=https://w.example/x" in lines
    assert "export UV_HTTP_TIMEOUT=99" in lines


def test_the_users_uv_settings_are_kept(pip_to_uv) -> None:
    settings = {"index-url": "https://a.example/simple", "find-links": "https://w.example"}
    environment = {"UV_INDEX_URL": "https://mine.example", "UV_FIND_LINKS": "mine"}
    assert pip_to_uv.shell_lines(settings, environment) == []


# --- the pins ----------------------------------------------------------------------------------


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    found = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonical(name): version for name, version in found.items()}


def test_every_requirement_is_pinned() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    # k2 is built for one torch at a time: its version is the user's choice.
    wanted = project["dependencies"] + [
        name for extra, names in optional.items() if extra != "k2" for name in names
    ]
    names = {canonical(re.match(r"[\w.-]+", line).group()) for line in wanted}
    assert names - set(pins()) == set()
    assert "+" not in pins()["torch"]


def test_installed_versions_are_the_pinned_ones() -> None:
    wrong = {}
    for name, version in pins().items():
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        if installed.split("+")[0] != version:
            wrong[name] = (installed, version)
    assert wrong == {}


def test_pip_route_lists_all_that_espnet_needs() -> None:
    listed = {
        canonical(re.match(r"[\w.-]+", line).group())
        for line in (ROOT / "requirements-pip.txt").read_text().splitlines()
        if line and not line.startswith("#")
    }
    by_themselves = {"espnet-tts-frontend", "ci-sdr"}
    for package in ("espnet", "espnet-tts-frontend", "ci-sdr"):
        needed = {
            canonical(re.match(r"[\w.-]+", line).group())
            for line in metadata.requires(package) or []
            if "extra ==" not in line
        }
        assert needed - listed - by_themselves == set()
    assert listed - set(pins()) == set()


@pytest.mark.parametrize(
    "prepare",
    [
        "import uas_plugin",
        "from uas_plugin.compat import prepare_torchaudio; prepare_torchaudio()",
    ],
)
def test_torchaudio_imports_through_the_mend(prepare: str) -> None:
    code = (
        f"{prepare}\n"
        "import torch, torchaudio\n"
        "from uas_plugin.compat import prepare_torchaudio, torchaudio_mended\n"
        "assert prepare_torchaudio() != torchaudio_mended()\n"
        "print(torchaudio.functional.resample(torch.ones(1, 16000), 16000, 8000).shape[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "8000"


def test_absent_torchaudio_can_be_asked_for() -> None:
    code = (
        "import importlib.util, sys, uas_plugin\n"
        "import importlib.machinery as machinery\n"
        "real = machinery.PathFinder.find_spec\n"
        "hide = lambda name, *rest: None if name == 'torchaudio' else real(name, *rest)\n"
        "machinery.PathFinder.find_spec = hide\n"
        "print(importlib.util.find_spec('torchaudio'))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "None"
