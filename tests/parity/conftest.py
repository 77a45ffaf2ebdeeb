"""``--golden-root DIR``: where the golden sets lie (default: tests/golden)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from torch import Tensor

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
    # The files of UniAudio 2.0 lie in one folder; a set may hold some of them only.
    **{
        f"uniaudio2_{kind}": ("uniaudio2", (f"{name}.json", f"*/{name}.json"))
        for kind, name in {
            "codec": "codec_config",
            "chunking": "chunking",
            "sizes": "fullsize_state_dict",
            "sq": "sqcodec_config",
            "lm": "lm_config",
            "layout": "layout",
            "loops": "decode_loops",
        }.items()
    },
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


class GoldenSet:
    """Files of one set, and comparisons within the tolerances of its README."""

    TOLERANCE, WAVE = 1e-4, 1e-5

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def facts(self, name: str) -> Any:
        return json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))

    def tensors(self, name: str) -> dict[str, Tensor]:
        """All of ``name.safetensors``, whole or in shards ``name-00001-of-...``."""
        from safetensors.torch import load_file

        whole = self.folder / f"{name}.safetensors"
        paths = [whole] if whole.exists() else sorted(self.folder.glob(f"{name}-*.safetensors"))
        assert paths, f"{self.folder} has no {name}"
        return {key: value for path in paths for key, value in load_file(path).items()}

    @staticmethod
    def below(found: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin with ``prefix``, without it."""
        return {k[len(prefix) :]: v for k, v in found.items() if k.startswith(prefix)}

    @staticmethod
    def close(made: Tensor, wanted: Tensor, tolerance: float = TOLERANCE) -> None:
        assert made.shape == wanted.shape
        np.testing.assert_allclose(
            made.detach().numpy(), wanted.numpy(), atol=tolerance, rtol=tolerance
        )

    @staticmethod
    def same(made: Tensor, wanted: Tensor) -> None:
        assert made.dtype == wanted.dtype
        np.testing.assert_array_equal(made.numpy(), wanted.numpy())


@pytest.fixture(scope="session")
def golden() -> type[GoldenSet]:
    """Opens a set: ``golden(folder)``."""
    return GoldenSet
