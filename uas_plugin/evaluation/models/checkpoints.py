"""Folders that models are loaded from: what must be there, and what identifies them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from uas_plugin.errors import UASError

#: What decides answers: weights, configuration, text pieces, chat template.
_PATTERNS = ("*.safetensors", "*.json", "*.model", "*.jinja", "*.txt")


def model_folder(where: str, kind: str) -> Path:
    """The folder ``where`` of ``--model kind:where``.

    Raises:
        UASError: there is no such folder, or it holds no weights in safetensors.
    """
    folder = Path(where)
    if not folder.is_dir():
        raise UASError(
            f"model '{kind}:{where}': there is no folder {where}: download the model there "
            "(config, weights in safetensors, tokenizer)"
        )
    if not any(folder.glob("*.safetensors")):
        raise UASError(
            f"model '{kind}:{where}': {where} holds no *.safetensors: weights in other files can "
            "run code and are not read; convert them with save_pretrained"
        )
    return folder


def checkpoint_facts(folder: Path) -> dict[str, Any]:
    """``folder``, and one SHA-256 over the names and contents of the files that decide answers."""
    from uas_plugin.provenance import file_sha256

    files = sorted({path for pattern in _PATTERNS for path in folder.glob(pattern)})
    total = hashlib.sha256()
    for path in files:
        # The lines that `sha256sum *` prints, so that it can be checked without this project.
        total.update(f"{file_sha256(path)}  {path.name}\n".encode())
    return {"folder": str(folder), "sha256": total.hexdigest(), "files": len(files)}


def loading_errors() -> tuple[type[Exception], ...]:
    """What transformers raises for a folder that is incomplete, damaged or of another kind."""
    from safetensors import SafetensorError

    return OSError, ValueError, ImportError, KeyError, AttributeError, TypeError, SafetensorError


def loading_error(kind: str, folder: Path, error: Exception) -> UASError:
    """The error for a checkpoint that its library refuses; ``error`` is what it said."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return UASError(f"model '{kind}:{folder}' cannot be loaded: {lines[0]}")
