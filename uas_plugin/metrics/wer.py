"""Word and character error rates with the normalisation of SEED-TTS-eval and the UAS evaluator.

Punctuation (ASCII and Chinese, the apostrophe kept) is removed, double spaces become single,
Chinese is split into characters and every other language is lower-cased. Utterances are aligned by
Levenshtein distance as jiwer does (same library, hence the same split into kinds of error).
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

#: Code point ranges of the Chinese punctuation marks that the published evaluators remove.
_HAN_PUNCTUATION = (
    (0x00B7, 0x00B7), (0x2013, 0x2014), (0x2018, 0x2019), (0x201B, 0x201F), (0x2026, 0x2027),
    (0x3000, 0x3003), (0x3008, 0x3011), (0x3014, 0x301F), (0x3030, 0x3030), (0x303E, 0x303F),
    (0xFE4F, 0xFE4F), (0xFE51, 0xFE51), (0xFE54, 0xFE54), (0xFF01, 0xFF0F), (0xFF1A, 0xFF20),
    (0xFF3B, 0xFF40), (0xFF5B, 0xFF64),
)  # fmt: skip
_REMOVED = dict.fromkeys(
    [ord(c) for c in string.punctuation if c != "'"]
    + [code for first, last in _HAN_PUNCTUATION for code in range(first, last + 1)]
)


@dataclass(frozen=True)
class WordErrors:
    """Counts of one alignment; ``wer`` is errors over reference length (may pass 1)."""

    wer: float
    substitutions: int
    insertions: int
    deletions: int
    hits: int

    @property
    def errors(self) -> int:
        """Substitutions, insertions and deletions together."""
        return self.substitutions + self.insertions + self.deletions

    @property
    def reference_length(self) -> int:
        """Words (Chinese: characters) of the normalised reference."""
        return self.hits + self.substitutions + self.deletions


def normalize(text: str, lang: str) -> str:
    """Normalise ``text`` as SEED-TTS-eval does; ``lang`` is a code such as ``en``, ``zh-cn``."""
    text = text.translate(_REMOVED).replace("  ", " ")
    if lang.lower().startswith("zh"):
        return " ".join(text)
    return text.lower()


def word_errors(ref: Sequence[str], hyp: Sequence[str]) -> WordErrors:
    """Align two lists of words.

    With an empty reference every word of the hypothesis is an insertion; ``wer`` is then 0 for an
    empty hypothesis and the number of insertions otherwise, so that silence that is filled with
    words is never free.
    """
    from rapidfuzz.distance import Levenshtein

    counts = {"replace": 0, "insert": 0, "delete": 0}
    for operation in Levenshtein.editops(list(ref), list(hyp)):
        counts[operation.tag] += 1
    substitutions, deletions = counts["replace"], counts["delete"]
    return WordErrors(
        wer=sum(counts.values()) / max(len(ref), 1),
        substitutions=substitutions,
        insertions=counts["insert"],
        deletions=deletions,
        hits=len(ref) - substitutions - deletions,
    )


def seed_wer(ref: str, hyp: str, lang: str = "en") -> WordErrors:
    """Errors of one utterance after normalisation (characters for Chinese, words otherwise)."""
    return word_errors(_words(normalize(ref, lang)), _words(normalize(hyp, lang)))


def confusions(ref: str, hyp: str, lang: str = "en") -> list[tuple[str, str]]:
    """Pairs (reference word, hypothesis word) of an alignment's errors; "" where one has none.

    >>> confusions("the cat sat", "a cat")
    [('the', 'a'), ('sat', '')]
    """
    from rapidfuzz.distance import Levenshtein

    left, right = _words(normalize(ref, lang)), _words(normalize(hyp, lang))
    found = []
    for operation in Levenshtein.editops(left, right):
        first = "" if operation.tag == "insert" else left[operation.src_pos]
        second = "" if operation.tag == "delete" else right[operation.dest_pos]
        found.append((first, second))
    return found


def _words(text: str) -> list[str]:
    """Split at blanks as jiwer does: runs of white space become one blank, a lone tab stays."""
    return [word for word in re.sub(r"\s\s+", " ", text).strip().split(" ") if word]


def corpus_wer(results: Iterable[WordErrors]) -> float:
    """All errors over all reference words. Raises ValueError when there is no reference word."""
    results = list(results)
    words = sum(r.reference_length for r in results)
    if not words:
        raise ValueError("corpus WER needs at least one reference word")
    return sum(r.errors for r in results) / words


def mean_wer(results: Iterable[WordErrors]) -> float:
    """Mean of the utterances' rates, the figure SEED-TTS-eval and the UAS evaluator report."""
    rates = [r.wer for r in results]
    if not rates:
        raise ValueError("mean WER needs at least one utterance")
    return sum(rates) / len(rates)
