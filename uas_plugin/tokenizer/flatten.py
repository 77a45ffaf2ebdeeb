"""A codec of several codebooks as a tokenizer of one: what takes one id a frame can use it.

Frame by frame, code c of codebook k becomes id c + k * codebook_size. C codebooks of K codes at f
frames a second give one codebook of C * K codes at C * f ids a second. The place of an id within
its frame tells its codebook, so nothing is lost, and the codebooks share no id.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from uas_plugin.errors import UASError
from uas_plugin.tokenizer.base import TokenizerBase
from uas_plugin.tokenizer.released import read_json
from uas_plugin.tokenizer.transformers_codecs import (
    CONFIG_NAME,
    FLATTENED_KEY,
    CodecTokenizer,
    load_codec_tokenizer,
)


def flatten(codes: np.ndarray, codebook_size: int) -> np.ndarray:
    """Ids (T * C,) int64 of codes (T, C), each in 0 .. codebook_size - 1 of its own codebook."""
    codes = np.asarray(codes, dtype=np.int64)
    return (codes + codebook_size * np.arange(codes.shape[1])).reshape(-1)


def unflatten(ids: np.ndarray, codebooks: int, codebook_size: int) -> np.ndarray:
    """Codes (T, C) int64 of flattened ids (T * C,).

    Args:
        ids: integers, whole frames.
        codebooks: C.
        codebook_size: codes of each codebook.

    Raises:
        UASError: a wrong shape or dtype, an unfinished frame, or an id that belongs to no codebook
            or to another one than its place.
    """
    ids = np.asarray(ids)
    if ids.ndim != 1:
        raise UASError(f"flattened ids of a clip are (ids,), not of shape {ids.shape}")
    if ids.size and not np.issubdtype(ids.dtype, np.integer):
        raise UASError(f"ids must be integers, not {ids.dtype}")
    if len(ids) % codebooks:
        raise UASError(f"{len(ids)} ids are no whole frames of {codebooks} codebooks")
    ids = ids.astype(np.int64)
    wrong = ids[(ids < 0) | (ids >= codebooks * codebook_size)]
    if wrong.size:
        raise UASError(f"id {wrong[0]} is outside 0..{codebooks * codebook_size - 1}")
    due = np.arange(len(ids)) % codebooks
    displaced = np.flatnonzero(ids // codebook_size != due)
    if displaced.size:
        place = displaced[0]
        raise UASError(
            f"id {ids[place]} at place {place} is of codebook {ids[place] // codebook_size}, "
            f"but codebook {due[place]} is due there"
        )
    return (ids - due * codebook_size).reshape(-1, codebooks)


class FlattenedTokenizer(TokenizerBase):
    """Audio to ids of one codebook, and back.

    Attributes:
        codec: the codec behind it.
        flattened_codebooks: C; a frame of the codec is C ids.
        sampling_rate: Hz that the codec hears (audio at other rates is resampled).
        frame_rate: ids per second, C times the codec's frames.
        codebook_size: ids are 0 .. codebook_size - 1, C times the codec's codes.
        num_codebooks: 1; ids of a clip are (T * C,).
    """

    num_codebooks = 1

    def __init__(self, codec: CodecTokenizer) -> None:
        self.codec = codec
        self.flattened_codebooks = codec.num_codebooks
        self.sampling_rate = codec.sampling_rate
        self.frame_rate = codec.frame_rate * codec.num_codebooks
        self.codebook_size = codec.codebook_size * codec.num_codebooks

    @property
    def device(self) -> torch.device:
        return self.codec.device

    def to(self, device: Any = None, dtype: Any = None) -> FlattenedTokenizer:
        """Move the codec and set its dtype, as :meth:`CodecTokenizer.to`."""
        self.codec.to(device, dtype)
        return self

    def encode_chunks(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Ids (T * C,) int64 of clips, each at most 30 s: (samples,) float32."""
        size = self.codec.codebook_size
        return [flatten(codes, size) for codes in self.codec.encode_chunks(waveforms)]

    def unflatten(self, ids: np.ndarray) -> np.ndarray:
        """The codec's codes (T, C) int64 of ids (T * C,); see :func:`unflatten` for the errors."""
        return unflatten(ids, self.flattened_codebooks, self.codec.codebook_size)

    def decode(self, ids: np.ndarray) -> tuple[np.ndarray, int]:
        """Waveform (samples,) float32 of ids (T * C,), and its rate in Hz, as the codec gives them.

        Raises:
            UASError: as :func:`unflatten`.
        """
        return self.codec.decode(self.unflatten(ids))

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write what the codec writes, with a key by which ``load_tokenizer`` flattens it again."""
        self.codec.save_pretrained(folder, flattened=True)


def load_codec_folder(
    folder: Path, device: Any = "cpu", dtype: Any = None
) -> CodecTokenizer | FlattenedTokenizer:
    """The codec of a folder, flattened if it was saved so; see :func:`load_codec_tokenizer`."""
    codec = load_codec_tokenizer(folder, device, dtype)
    return FlattenedTokenizer(codec) if is_flattened(folder) else codec


def is_flattened(folder: Path) -> bool:
    """Whether a codec's folder was saved by :class:`FlattenedTokenizer`.

    Raises:
        UASError: its key in ``config.json`` is neither true nor false.
    """
    value = read_json(folder / CONFIG_NAME).get(FLATTENED_KEY, False)
    if not isinstance(value, bool):
        raise UASError(f"{folder / CONFIG_NAME}: {FLATTENED_KEY} is {value!r}, not true or false")
    return value
