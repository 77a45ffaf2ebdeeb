"""MMAU (arXiv 2410.19168), test-mini: 1,000 questions on speech, sound and music."""

from __future__ import annotations

from uas_plugin.evaluation.benchmarks.base import Download
from uas_plugin.evaluation.benchmarks.choices import ChoiceBenchmark


class MMAU(ChoiceBenchmark):
    """``mmau-test-mini.json`` and the folder of recordings that it names.

    Official rule: word sets on the whole response. UAS rule: the stated answer first; a lone letter
    is an option.
    """

    name = "mmau"
    title = "MMAU test-mini"
    version = "test-mini"
    file = "mmau-test-mini.json"
    audio_field = "audio_id"
    letter_rule = True
    axes: tuple[str, ...] = ("task", "category", "sub-category", "difficulty")
    columns = (
        ("Speech", "task", "speech"),
        ("Sound", "task", "sound"),
        ("Music", "task", "music"),
        ("All", "all", "all"),
    )
    parsers = {
        "uas": "stated answer, lone letter, word sets",
        "official": "word sets on the response",
    }
    downloads: tuple[Download, ...] = (
        Download("mmau-test-mini.json", "https://github.com/Sakshi113/MMAU", "mmau-test-mini.json"),
        Download(
            "test-mini-audios.tar.gz (linked in the README, unpacked)",
            "https://github.com/Sakshi113/MMAU",
            "test-mini-audios/",
        ),
    )


class Questions(MMAU):
    """The questions that ``uas qa`` makes of a corpus, in MMAU's layout."""

    name = "questions"
    title = "Questions of the recipe"
    version = "made by uas qa"
    file = "mmau.json"
    axes = ("task", "sub-category")
    downloads = (Download("nothing: made here", "`uas qa --cuts CUTS --output DIR`", "mmau.json"),)
