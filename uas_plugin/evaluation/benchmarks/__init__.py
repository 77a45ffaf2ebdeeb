"""Benchmarks by name, one a module."""

from __future__ import annotations

import importlib
from typing import Any

from uas_plugin.errors import UASError, suggest
from uas_plugin.evaluation.benchmarks.base import PROTOCOLS, Benchmark, ItemScore, Protocol

#: name -> (module, class)
_BENCHMARKS = {
    "mmau": ("mmau", "MMAU"),
    "mmar": ("mmar", "MMAR"),
    "mmsu": ("mmsu", "MMSU"),
    "questions": ("mmau", "Questions"),
    "corpus_en": ("corpus", "CorpusEnglish"),
    "corpus_zh": ("corpus", "CorpusChinese"),
    "librispeech": ("librispeech", "LibriSpeechClean"),
    "librispeech_other": ("librispeech", "LibriSpeechOther"),
    "aishell1": ("aishell1", "AISHELL1"),
    "seedtts_en": ("seedtts", "SeedTTSEnglish"),
    "seedtts_zh": ("seedtts", "SeedTTSChinese"),
}
NAMES = tuple(_BENCHMARKS)


def get_benchmark(name: str) -> Benchmark:
    """The benchmark of that name, see :data:`NAMES`.

    >>> get_benchmark("mmau").title
    'MMAU test-mini'

    Raises:
        UASError: there is none of that name (the nearest one is named).
    """
    if name not in _BENCHMARKS:
        raise UASError(
            f"unknown benchmark '{name}'.{suggest(name, NAMES)} Known are {', '.join(NAMES)}"
        )
    module, cls = _BENCHMARKS[name]
    found: Any = getattr(importlib.import_module(f"{__name__}.{module}"), cls)
    return found()


__all__ = ["NAMES", "PROTOCOLS", "Benchmark", "ItemScore", "Protocol", "get_benchmark"]
