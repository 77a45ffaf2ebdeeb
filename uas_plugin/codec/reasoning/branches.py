"""Token ids of both branches of a clip, and what they must look like."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from uas_plugin.data.tokens import REASONING, TOKENS_FIELD, branch_name
from uas_plugin.errors import UASError

CODEBOOKS = 8


class BranchIds(NamedTuple):
    """``reasoning`` (N, 8) int64 at 5 Hz and ``reconstruction`` (T, 8) int64 at 12.5 Hz."""

    reasoning: np.ndarray
    reconstruction: np.ndarray


def check_codes(codes: np.ndarray, size: int, name: str) -> None:
    """Refuse what is no (T, 8) array of ids below ``size``.

    Raises:
        UASError: says what is wrong and what it may come from.
    """
    if codes.ndim != 2 or codes.shape[1] != CODEBOOKS:
        turned = codes.ndim == 2 and codes.shape[0] == CODEBOOKS
        hint = ": transpose it" if turned else ""
        raise UASError(f"{name} must be (frames, {CODEBOOKS}), not {tuple(codes.shape)}{hint}")
    if not np.issubdtype(codes.dtype, np.integer):
        raise UASError(f"{name} must hold integers, not {codes.dtype}")
    if codes.size and not (codes.min() >= 0 and codes.max() < size):
        worst = codes.min() if codes.min() < 0 else codes.max()
        raise UASError(
            f"{name} holds id {worst}; its codebooks have 0 .. {size - 1}: "
            "are the reasoning and reconstruction ids swapped?"
        )


def check_rates(ids: BranchIds, name: str) -> None:
    """Refuse two branches that cannot be of one clip: swapped, or of two clips.

    A language model may end its two segments a little apart, so half or double is let pass.

    Raises:
        UASError: their lengths are far from 2 to 5.
    """
    expected = len(ids.reconstruction) * 2 / 5
    if not expected / 2 - 2 <= len(ids.reasoning) <= expected * 2 + 2:
        raise UASError(
            f"{name}: {len(ids.reasoning)} reasoning and {len(ids.reconstruction)} reconstruction "
            "frames are not of one clip (5 and 12.5 a second): are the two swapped?"
        )


def ids_of_cut(cut: Any) -> BranchIds | None:
    """The ids that a token dump stored for a Lhotse cut, or None if it has not both branches.

    Of a part of the dumped cut, the frames that it begins to the one it ends in.

    Raises:
        UASError: an array cannot be read, or the two are not of one clip.
    """
    fields = [branch_name(TOKENS_FIELD, branch) for branch in (REASONING, "")]
    if not all(cut.has_custom(field) for field in fields):
        return None
    found = []
    for field in fields:
        array = getattr(cut, field)
        try:
            codes = array.load()
        except (OSError, KeyError, ValueError) as error:
            raise UASError(f"cut {cut.id}: its {field} cannot be read: {error}") from None
        first = round((cut.start - array.start) / array.frame_shift)
        # Rates are exact in binary but for rounding of the duration.
        count = int(np.ceil(cut.duration / array.frame_shift - 1e-6))
        found.append(codes[first : first + count].astype(np.int64))
    ids = BranchIds(*found)
    check_rates(ids, f"cut {cut.id}")
    return ids


def read_codes(path: str | os.PathLike[str]) -> np.ndarray:
    """Codes (T, 8) of a file: ``.npy`` (T, 8), or ``.pt`` (8, T) as the published tool writes it.

    Raises:
        UASError: missing, damaged, or of another shape.
    """
    path = Path(path)
    if path.suffix == ".npy":
        try:
            return np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise UASError(f"{path}: cannot be read: {error}") from None
    from uas_plugin.checkpoint import load_weights

    found: Any = load_weights(path)
    if not hasattr(found, "numpy"):
        raise UASError(f"{path}: expected one tensor (8, frames)")
    codes = found.cpu().numpy()
    if codes.ndim == 3 and codes.shape[0] == 1:
        codes = codes[0]
    if codes.ndim != 2 or codes.shape[0] != CODEBOOKS:
        raise UASError(f"{path}: expected ({CODEBOOKS}, frames), not {tuple(codes.shape)}")
    return codes.T.astype(np.int64) if np.issubdtype(codes.dtype, np.integer) else codes.T


def write_codes(path: str | os.PathLike[str], codes: np.ndarray) -> None:
    """Write codes (T, 8) as `read_codes` reads them."""
    from uas_plugin.atomic import atomic_path

    path = Path(path)
    with atomic_path(path) as temporary:
        if path.suffix == ".npy":
            with open(temporary, "wb") as stream:
                np.save(stream, codes)
        else:
            import torch

            torch.save(torch.from_numpy(np.ascontiguousarray(codes.T)), temporary)
