"""``--golden-root DIR``: where the golden sets lie (default: tests/golden)."""

from __future__ import annotations

from pathlib import Path

import pytest

DEFAULT_ROOT = Path(__file__).resolve().parents[1] / "golden"

# Fixture -> (folder below the root, patterns of the file that makes a folder a set). Tests that ask
# for the fixture run once for every set that is there.
SETS = {
    "encoder_set": ("uniaudio_token/encoder", ("*/expected.npz",)),
    "seq2seq_set": ("uniaudio_token/seq2seq", ("*/expected.json",)),
    "stable_set": ("stabletoken/encoder", ("*/tokens.json",)),
    "decoder_set": (
        "uniaudio_token",
        ("decoder*/expected.safetensors", "decoder/*/expected.safetensors"),
    ),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden-root",
        type=Path,
        default=None,
        help="folder of golden sets (default: tests/golden); every set that is there is checked",
    )


def _root(config: pytest.Config) -> Path:
    # Asked with a default: the option is unknown when pytest starts above this folder.
    return config.getoption("--golden-root", default=None) or DEFAULT_ROOT


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for name, (folder, patterns) in SETS.items():
        if name not in metafunc.fixturenames:
            continue
        parent = _root(metafunc.config) / folder
        found = sorted(path.parent for pattern in patterns for path in parent.glob(pattern))
        sets = [pytest.param(path, id=path.name) for path in found]
        if not sets:
            skip = pytest.mark.skip(reason=f"no golden set below {parent}")
            sets = [pytest.param(None, id="none", marks=skip)]
        metafunc.parametrize(name, sets, scope="session")


@pytest.fixture(scope="session")
def golden_root(pytestconfig: pytest.Config) -> Path:
    """Folder with the golden sets."""
    return _root(pytestconfig)


@pytest.fixture(autouse=True)
def _one_thread():
    """The reference was run on one thread: sums in the same order."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
