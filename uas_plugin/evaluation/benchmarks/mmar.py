"""MMAR (arXiv 2505.13032): 1,000 questions that need reasoning; also on mixtures."""

from __future__ import annotations

from pathlib import Path

from uas_plugin.evaluation.benchmarks.base import Download
from uas_plugin.evaluation.benchmarks.choices import ChoiceBenchmark


class MMAR(ChoiceBenchmark):
    """``MMAR-meta.json`` (or ``.jsonl``) and the folder ``audio``.

    The columns of the papers are the pure modalities; mixtures count in "All" only. The rules are
    MMAU's, but a lone letter is no answer.
    """

    name = "mmar"
    title = "MMAR"
    version = "test"
    file = "MMAR-meta.json"
    audio_field = "audio_path"
    letter_rule = False
    axes = ("modality", "category", "sub-category", "language")
    columns = (
        ("Speech", "modality", "speech"),
        ("Sound", "modality", "sound"),
        ("Music", "modality", "music"),
        ("All", "all", "all"),
    )
    parsers = {"uas": "stated answer, word sets", "official": "word sets on the response"}
    downloads = (
        Download("MMAR-meta.json", "https://github.com/ddlBoJack/MMAR", "MMAR-meta.json"),
        Download(
            "mmar-audio.tar.gz (unpacked)",
            "https://huggingface.co/datasets/BoJack/MMAR",
            "audio/",
        ),
    )

    def files(self, folder: Path) -> list[Path]:
        lines = folder / "MMAR-meta.jsonl"
        return [lines] if lines.exists() else super().files(folder)
