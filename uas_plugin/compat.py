"""Mends for installed packages that do not fit each other; no file of theirs is touched."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

_LIBRARIES = ("_torchaudio", "libtorchaudio")


def _missing(feature: str) -> Any:
    def fail(*_args: Any, **_kwargs: Any) -> Any:
        raise RuntimeError(
            f"torchaudio's compiled {feature} does not load beside this torch; install the"
            " torchaudio wheel built for the same device (CPU or CUDA) as torch"
        )

    return fail


def _extension_stub() -> types.ModuleType:
    """What ``torchaudio._extension`` looks like in a build without compiled code."""
    stub = types.ModuleType("torchaudio._extension")
    stub.__dict__.update(
        _IS_TORCHAUDIO_EXT_AVAILABLE=False,
        _IS_ALIGN_AVAILABLE=False,
        _check_cuda_version=lambda: None,
        _load_lib=lambda _name: False,
        fail_if_no_align=lambda _function: _missing("alignment"),
    )
    return stub


def torchaudio_mended() -> bool:
    """Whether :func:`prepare_torchaudio` had to put its stand-in in this process."""
    module = sys.modules.get("torchaudio._extension")
    return module is not None and not hasattr(module, "__file__")


def prepare_torchaudio() -> bool:
    """Make ``import torchaudio`` work beside a CPU torch; call it before the first such import.

    torchaudio loads its extension when it is imported and lets the error through. The ordinary
    wheel is linked against CUDA libraries, which a CPU torch lacks. ESPnet imports torchaudio in
    every task but uses only its pure Python parts, so a stand-in for ``torchaudio._extension``
    (the module of a build without compiled code) is enough. An extension that loads is left alone.

    Returns:
        True when torchaudio's compiled extension is available, False when it is stood in for.

    Raises:
        ModuleNotFoundError: torchaudio (or torch) is not installed.
    """
    if "torchaudio" in sys.modules or "torchaudio._extension" in sys.modules:
        return not torchaudio_mended()
    spec = importlib.util.find_spec("torchaudio")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("torchaudio is not installed: run local/setup.sh")
    import torch

    folder = Path(spec.origin).parent / "lib"
    try:
        for name in _LIBRARIES:
            for library in sorted(folder.glob(f"{name}.*")):
                torch.ops.load_library(library)
    except OSError:
        sys.modules["torchaudio._extension"] = _extension_stub()
        return False
    return True


class _TorchaudioHook:
    """Import hook that prepares torchaudio when something first looks for it.

    transformers and ESPnet import torchaudio by themselves; with the hook no module of ours has
    to remember to prepare it, and nothing is imported until then.
    """

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name == "torchaudio":
            sys.meta_path.remove(self)
            # Absent torchaudio is an answer too: some libraries only ask whether it is there.
            with contextlib.suppress(ModuleNotFoundError):
                prepare_torchaudio()
        return None


def install_torchaudio_hook() -> None:
    """Install the hook once; importing ``uas_plugin`` does."""
    if not any(isinstance(finder, _TorchaudioHook) for finder in sys.meta_path):
        sys.meta_path.insert(0, _TorchaudioHook())  # type: ignore[arg-type]
