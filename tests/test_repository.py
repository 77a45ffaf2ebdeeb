"""What must hold for the files of the repository as a whole."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def tracked_files() -> list[Path]:
    done = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip("not a git checkout")
    paths = (ROOT / name for name in done.stdout.split("\0") if name)
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def tracked_texts() -> dict[str, str]:
    texts = {}
    for path in tracked_files():
        try:
            texts[str(path.relative_to(ROOT))] = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:  # audio, images
            continue
    return texts


def occurrences(pattern: str) -> list[str]:
    return [
        f"{name}: {match.group()}"
        for name, text in tracked_texts().items()
        for match in re.finditer(pattern, text)
    ]


def test_no_path_of_one_machine() -> None:
    """Absolute folders of people, projects and mounts; system paths such as a shebang are fine."""
    tops = "work|root|home|Users|opt|mnt|srv|farm|scratch"
    assert occurrences(rf"(?<![\w.~}}\])/:-])/(?:{tops})/\w+") == []


def test_no_host_of_a_package_registry() -> None:
    hosts = ("pypi", "pythonhosted", "npmjs", "debian", "anaconda", "pytorch")
    names = "|".join(hosts)
    assert occurrences(rf"[\w.-]*\b(?:{names})\.(?:org|com)\b(?!@)") == []


def test_no_secret_and_no_merge_mark() -> None:
    assert occurrences(r"(?m)^(?:<{7}|>{7}) ") == []
    assert occurrences(r"-----BEGIN [A-Z ]*PRIVATE KEY") == []


def test_no_large_file() -> None:
    large = [str(path) for path in tracked_files() if path.stat().st_size > 2 * 2**20]
    assert large == []


def test_shell_entry_points_are_executable_and_explain_themselves() -> None:
    local = [ROOT / "local/setup.sh", ROOT / "local/install_k2.sh"]
    scripts = [*local, ROOT / "tests/run.sh", *ROOT.glob("egs/*/*/run.sh")]
    for script in scripts:
        done = subprocess.run([str(script), "--help"], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{script}: {done.stderr}"
        assert "example" in done.stdout, script
    assert (ROOT / ".ci/run").read_text().splitlines()[1:] == [
        'exec "$(dirname "${BASH_SOURCE[0]}")/../tests/run.sh" "$@"'
    ]


def entry_points(*, training: bool) -> dict[str, str]:
    """Source text of the modules of uas_plugin.bin that are commands."""
    texts = {path.stem: path.read_text() for path in (ROOT / "uas_plugin/bin").glob("*.py")}
    return {
        name: text
        for name, text in sorted(texts.items())
        if "__main__" in text and ("uas_plugin.espnet.main" in text) == training
    }


@pytest.mark.parametrize("name", entry_points(training=False))
def test_every_entry_point_has_help_with_an_example(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"uas_plugin.bin.{name}", "--help"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert f"uas_plugin.bin.{name}" in done.stdout.partition("example")[2]


def test_training_entry_points_have_help() -> None:
    """ESPnet writes their help, so their example stands in the module's head."""
    modules = entry_points(training=True)
    assert modules
    for name, text in modules.items():
        head = ast.get_docstring(ast.parse(text)) or ""
        assert f"uas_plugin.bin.{name}" in head.partition("example")[2]
    # One process for all: importing ESPnet is what takes the time.
    code = (
        "import runpy, sys\n"
        f"for name in {list(modules)}:\n"
        "    sys.argv = [name, '--help']\n"
        "    try:\n"
        "        runpy.run_module(f'uas_plugin.bin.{name}', run_name='__main__')\n"
        "    except SystemExit as end:\n"
        "        print('ended', name, end.code)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"ended (\w+) (\w+)", done.stdout) == [(name, "0") for name in modules]
    assert done.stdout.count("usage: ") == len(modules)
    assert "--print_config" in done.stdout


def test_links_in_documents_lead_somewhere() -> None:
    broken = []
    for name, text in tracked_texts().items():
        if not name.endswith(".md"):
            continue
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
            if "://" not in target and not (ROOT / name).parent.joinpath(target).exists():
                broken.append(f"{name}: {target}")
    assert broken == []


def imported_modules(path: Path) -> set[str]:
    """Full names of the modules that a file imports, at its top or inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


# room -> what it must not import; the arrows of docs/architecture.md
LATER = tuple(
    f"uas_plugin.{room}" for room in ("audiollm", "espnet", "evaluation", "report", "serve", "bin")
)
QA = "uas_plugin.qa"
MODELS = ("uas_plugin.tokenizer", "uas_plugin.codec")
FORBIDDEN = {
    "schema": ("espnet2", "transformers", "torch", "uas_plugin.data", QA, *MODELS, *LATER),
    "metrics": ("espnet2", "transformers", "torch", "uas_plugin.data", QA, *MODELS, *LATER),
    "data": ("espnet2", "transformers", QA, *MODELS, *LATER),
    "qa": ("espnet2", "transformers", "torch", *MODELS, *LATER),
    "tokenizer": ("espnet2", *(room for room in LATER if room != "uas_plugin.bin")),
    "codec": ("espnet2", *(room for room in LATER if room != "uas_plugin.bin")),
    "audiollm": (
        "espnet2",
        *(f"uas_plugin.{room}" for room in ("espnet", "evaluation", "report", "serve")),
    ),
    "evaluation": ("espnet2", "uas_plugin.espnet", "uas_plugin.report", "uas_plugin.serve"),
    "serve": ("espnet2", "uas_plugin.espnet", "uas_plugin.evaluation", "uas_plugin.report"),
    "ctc": ("espnet2", "transformers", "uas_plugin.evaluation", "uas_plugin.report"),
    "report": ("espnet2", "uas_plugin.espnet"),
    "annotate": ("espnet2", "torch", "transformers", "uas_plugin.audiollm", *MODELS),
    "recipe": ("espnet2", "torch", "transformers"),
    "config": ("espnet2", "torch", "transformers"),
}


@pytest.mark.parametrize("room", sorted(FORBIDDEN))
def test_rooms_import_in_one_direction(room: str) -> None:
    # cli.py of a room is a command line: it may use the helpers of bin and what it shows.
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in (ROOT / "uas_plugin" / room).rglob("*.py")
        for module in imported_modules(path)
        for forbidden in FORBIDDEN[room]
        if module == forbidden or module.startswith(f"{forbidden}.")
        if not (path.name == "cli.py" and forbidden == "uas_plugin.bin")
    ]
    assert wrong == []


def test_only_its_room_imports_espnet() -> None:
    others = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "uas_plugin").rglob("*.py")
        if "espnet" not in path.parts
        and any(m.startswith("espnet") for m in imported_modules(path))
    ]
    assert others == []


def test_package_has_no_pickle_and_no_unsafe_yaml() -> None:
    """Checkpoints and manifests are untrusted input."""
    unsafe = (
        r"weights_only\s*=\s*False",
        r"allow_pickle\s*=\s*True",
        r"\byaml\.(?:load|unsafe_load)\(",
        r"^\s*import pickle",
    )
    hits = occurrences(f"(?m){'|'.join(unsafe)}")
    found = [hit for hit in hits if hit.startswith("uas_plugin/")]
    assert found == []
