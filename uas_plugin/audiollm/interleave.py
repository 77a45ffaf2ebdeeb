"""Text and speech in one answer, n pieces of text and m audio tokens in turn.

As in UAS-Audio (arXiv 2604.12506): 13 pieces, then 52 audio tokens (2.08 s at 25 Hz), and so on.
Speech is longer than its text, so the text ends first. Then, in the place of a next piece of text,
``<|audio_bos|>`` says that only audio follows; it ends with ``<|audio_eos|>``, the answer with
``<|im_end|>``. So a reader always knows which slot it is in, and so does the sampler.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from uas_plugin.audiollm.vocabulary import Vocabulary
from uas_plugin.errors import UASError

SLOTS = (13, 52)  # text pieces and audio tokens in turn


def check_slots(slots: Sequence[int]) -> tuple[int, int]:
    """The two sizes as a tuple.

    Raises:
        UASError: they are not two numbers above 0.
    """
    if len(slots) != 2 or any(not isinstance(n, int) or n < 1 for n in slots):
        raise UASError(f"slots are two numbers above 0 (text, audio), not {slots!r}")
    return slots[0], slots[1]


def fits_slots(text: int, audio: int, slots: Sequence[int] = SLOTS) -> bool:
    """Whether so many text pieces and audio tokens can stand in turn: audio is not over first."""
    n, m = check_slots(slots)
    return text // n * m <= audio


def interleave(
    text: Sequence[int], codes: Any, vocabulary: Vocabulary, slots: Sequence[int] = SLOTS
) -> list[int]:
    """Ids of an answer, without its end mark.

    Args:
        text: ids of text pieces. codes: codebook entries ``(n,)`` that say it.

    Raises:
        UASError: the audio is over before the text, which these slots cannot write.
    """
    n, m = check_slots(slots)
    audio = vocabulary.audio_ids(codes)
    full = len(text) // n  # slots of text that have their slot of audio behind them
    if not fits_slots(len(text), len(audio), slots):
        raise UASError(
            f"{len(text)} text pieces need {full * m} audio tokens in slots {n}:{m}, and there are "
            f"{len(audio)}: the audio does not say all of the text"
        )
    ids: list[int] = []
    for slot in range(full):
        ids += [*text[slot * n : (slot + 1) * n], *audio[slot * m : (slot + 1) * m]]
    rest = audio[full * m :]
    return [*ids, *text[full * n :], vocabulary.audio_bos, *rest, vocabulary.audio_eos]


class InterleavedGuide:
    """What may follow in an interleaved answer (a :class:`~uas_plugin.audiollm.guides.Guide`)."""

    def __init__(self, vocabulary: Vocabulary, slots: Sequence[int] = SLOTS) -> None:
        self.vocabulary, (self._n, self._m) = vocabulary, check_slots(slots)
        self._at = 0  # place in the turn of n + m
        self._mark: int | None = None  # the last mark: text is over, then audio is over

    def mask(self, allowed: np.ndarray, left: int) -> None:
        v = self.vocabulary
        if self._mark == v.audio_eos:
            _only(allowed, v.im_end)
        elif self._mark == v.audio_bos:
            allowed[: v.audio_start] = False
            allowed[v.audio_eos] = True
        elif self._at < self._n:
            allowed[v.text_size :] = False
            allowed[v.audio_bos] = True
        else:
            allowed[: v.audio_start] = False

    def accept(self, token: int) -> None:
        if token in (self.vocabulary.audio_bos, self.vocabulary.audio_eos):
            self._mark = token
        elif self._mark is None:
            self._at = (self._at + 1) % (self._n + self._m)


def _only(allowed: np.ndarray, token: int) -> None:
    allowed[:] = False
    allowed[token] = True
