"""One set of a token dump, read once from front to end and checked against its own counts."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from uas_plugin.data.tokens import TEXT_NAME, codebooks_of, load_token_cuts, read_token_info
from uas_plugin.errors import UASError


@dataclass
class Row:
    """One utterance of a dump.

    Attributes:
        units: (T C,) int64, frame by frame; id of codebook k is ``code + k * codebook_size``.
        text: the transcription with single spaces, "" where there is none.
    """

    utt: str
    units: np.ndarray
    text: str
    cut: Any

    @property
    def speaker(self) -> str:
        """The speaker without white space; without one the utterance is its own, as in Kaldi."""
        return "_".join((self.cut.supervisions[0].speaker or self.utt).split())


@dataclass
class TokenSet:
    """A set of a dump.

    Args:
        folder: ``<dump>/<set>``.
        num_codebooks: how many codebooks of a frame are taken, from the first on (None: all).
    """

    folder: Path
    num_codebooks: int | None = None
    info: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.folder = Path(self.folder)
        self.info = read_token_info(self.folder)
        self.dumped = codebooks_of(self.info)
        self.num_codebooks = self.num_codebooks or self.dumped
        if not 1 <= self.num_codebooks <= self.dumped:
            raise UASError(
                f"{self.folder} has {self.dumped} codebooks, not {self.num_codebooks}: give"
                f" --codebooks 1 to {self.dumped}"
            )

    @property
    def num_units(self) -> int:
        """Number of different ids."""
        return self.info["codebook_size"] * int(self.num_codebooks or 1)

    @property
    def n_shift(self) -> int:
        """Samples a token frame, the hop that ESPnet's pitch, energy and durations must have.

        Raises:
            UASError: the token rate does not divide the sampling rate.
        """
        rate, frames = self.info["sampling_rate"], self.info["frame_rate"]
        shift = round(rate / frames)
        if not np.isclose(shift * frames, rate):
            raise UASError(
                f"{rate} Hz is no whole number of samples at {frames} tokens a second: ESPnet's"
                " tts2 has no frame grid for this tokenizer"
            )
        return shift

    def rows(self) -> Iterator[Row]:
        """The utterances in the order of their ids, one in memory at a time.

        Raises:
            UASError: the token lines are not those of the cuts, are unsorted, hold a foreign id, or
                are not as many as ``info.json`` says.
        """
        cuts = tokens = 0
        last = ""
        with open(self.folder / TEXT_NAME, encoding="utf-8") as stream:
            pairs = itertools.zip_longest(load_token_cuts(self.folder), stream)
            for cut, line in pairs:
                utt, _, ids = (line or "").rstrip("\n").partition(" ")
                if cut is None or cut.id != utt:
                    raise self._wrong(f"cut '{getattr(cut, 'id', None)}' stands beside '{utt}'")
                if utt.split() != [utt] or utt <= last:
                    raise self._wrong(f"'{utt}' after '{last}': ids are not sorted words")
                codes = self._codes(utt, ids)
                cuts, tokens, last = cuts + 1, tokens + codes.size, utt
                text = " ".join((cut.supervisions[0].text or "").split())
                yield Row(utt, self._units(codes), text, cut)
        counted = (cuts, tokens)
        said = (self.info["num_cuts"], self.info["num_tokens"])
        if counted != said:
            raise self._wrong(f"{counted} cuts and tokens, info.json says {said}")

    def _codes(self, utt: str, ids: str) -> np.ndarray:
        """(T, C) codes of a line."""
        try:
            codes = np.array(ids.split(), dtype=np.int64)
        except ValueError:
            raise self._wrong(f"'{utt}': token ids must be integers") from None
        if codes.size % self.dumped:
            raise self._wrong(f"'{utt}': {codes.size} ids are no whole frames")
        size = self.info["codebook_size"]
        if codes.size and not 0 <= codes.min() <= codes.max() < size:
            raise self._wrong(f"'{utt}': an id lies outside 0 to {size - 1}")
        return codes.reshape(-1, self.dumped)

    def _units(self, codes: np.ndarray) -> np.ndarray:
        kept = codes[:, : self.num_codebooks]
        shifts = np.arange(kept.shape[1], dtype=np.int64) * self.info["codebook_size"]
        return (kept + shifts).reshape(-1)

    def _wrong(self, what: str) -> UASError:
        return UASError(f"token dump {self.folder}: {what}; dump the set again (stage 4)")


def named_sets(
    dump: str | os.PathLike[str], names: list[str], codebooks: int | None = None
) -> dict[str, TokenSet]:
    """The sets ``names`` of a dump, of one tokenizer all.

    Raises:
        UASError: a set is missing, or two are of different tokenizers.
    """
    sets = {name: TokenSet(Path(dump) / name, codebooks) for name in names}
    kinds = {(s.info["sha256"], s.dumped, s.info["codebook_size"]) for s in sets.values()}
    if len(kinds) > 1:
        raise UASError(f"the sets of {dump} are of different tokenizers: dump them again")
    return sets
