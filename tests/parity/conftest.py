"""``--golden-root DIR``: where the golden sets lie (default: tests/golden)."""

from __future__ import annotations

from pathlib import Path

import pytest

DEFAULT_ROOT = Path(__file__).resolve().parents[1] / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden-root",
        type=Path,
        default=None,
        help="folder of golden sets (default: tests/golden); every set that is there is checked",
    )


@pytest.fixture(scope="session")
def golden_root(pytestconfig: pytest.Config) -> Path:
    """Folder with the golden sets."""
    # Asked with a default: the option is unknown when pytest starts above this folder.
    return pytestconfig.getoption("--golden-root", default=None) or DEFAULT_ROOT
