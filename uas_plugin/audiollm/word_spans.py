"""Spoken sentences whose words are partly written and partly spoken, in spans cut at word borders.

The speech-text interleaving of UniAudio 2.0's "auditory sentences" (section 4.4, App. B.2) and of
others before it: a model that must go on in the other medium learns that both say the same. Where
the words lie in the audio tokens is told by an alignment (``uas ctc align``, ``word_durations``).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from uas_plugin.audiollm.vocabulary import Vocabulary
from uas_plugin.data.text import TextTokenizer
from uas_plugin.errors import UASError

Span = tuple[bool, int, int]  # whether it is spoken; first word, word behind the last


def draw_spans(words: int, sizes: tuple[int, int], rng: np.random.Generator) -> list[Span]:
    """Spans of a sentence, written and spoken in turn; which comes first is drawn.

    Args:
        words: their number. sizes: fewest and most words of a span; the last may have fewer.
    """
    spoken, at = bool(rng.integers(2)), 0
    spans = []
    while at < words:
        end = min(words, at + int(rng.integers(sizes[0], sizes[1] + 1)))
        spans.append((spoken, at, end))
        spoken, at = not spoken, end
    return spans


def interleave_words(
    words: Sequence[str],
    codes: Any,
    durations: Sequence[int],
    spans: Sequence[Span],
    vocabulary: Vocabulary,
    text: TextTokenizer,
) -> list[int]:
    """Ids of a sentence: pieces of the written spans; audio tokens between marks of the spoken.

    Args:
        codes: ``(T,)`` codebook entries that say ``words``. durations: frames of each word.

    Raises:
        UASError: there are not as many durations as words, or they do not sum to T.
    """
    borders = np.concatenate([[0], np.cumsum(np.asarray(durations, dtype=np.int64))])
    if len(borders) != len(words) + 1 or borders[-1] != len(codes):
        raise UASError(
            f"an alignment of {len(borders) - 1} words over {borders[-1]} frames is none of "
            f"{len(words)} words over {len(codes)}: align this dump's tokens with its texts"
        )
    ids: list[int] = []
    for spoken, first, end in spans:
        if spoken:
            heard = codes[borders[first] : borders[end]]
            ids += [vocabulary.audio_bos, *vocabulary.audio_ids(heard), vocabulary.audio_eos]
        else:
            ids += text.encode(" ".join(words[first:end]))
    return ids


def read_alignments(paths: Sequence[str]) -> dict[str, np.ndarray]:
    """Frames of each word by cut id, from files of ``word_durations``.

    Raises:
        UASError: a file is missing or is none of durations.
    """
    from uas_plugin.data.durations import read_durations

    found: dict[str, np.ndarray] = {}
    for path in paths:
        found.update(read_durations(path))
    return found


class SpanMaker:
    """The interleaved sentences of cuts; counts those that it must leave out.

    Args:
        alignments: frames of each word by cut id. sizes: words of a span.
        copies: sentences of a cut, with other spans each.
    """

    def __init__(
        self,
        alignments: Mapping[str, np.ndarray],
        sizes: tuple[int, int],
        copies: int,
        vocabulary: Vocabulary,
        text: TextTokenizer,
    ) -> None:
        self.alignments, self.sizes, self.copies = alignments, sizes, copies
        self.vocabulary, self.text = vocabulary, text
        self.without = 0  # sentences that no alignment fits

    def make(
        self, name: str, said: str, codes: np.ndarray, rng: np.random.Generator
    ) -> Iterator[list[int]]:
        """Ids of each copy; none of a cut without an alignment, or of a single word.

        Args:
            said: the transcription of the cut ``name``. codes: its ``(T,)`` audio tokens.
        """
        words, durations = said.split(), self.alignments.get(name)
        if durations is None or len(durations) != len(words) or durations.sum() != len(codes):
            self.without += bool(words)
            return
        for _ in range(self.copies if len(words) > 1 else 0):
            spans = draw_spans(len(words), self.sizes, rng)
            yield interleave_words(words, codes, durations, spans, self.vocabulary, self.text)

    def report(self) -> None:
        """Say how many sentences were left out since the last report, if any."""
        if self.without:
            logging.warning(
                "interleaved: %d sentences are left out: no alignment has their words and frames",
                self.without,
            )
        self.without = 0
