"""Stages of the recipes of stock ESPnet models."""

from __future__ import annotations

from uas_plugin.recipe.stages import Stage

ASR2 = (
    Stage(1, "data files", ("asr2_export",), ("{exp}/data/info.json",), ()),
    Stage(
        2,
        "statistics",
        ("asr2_stats",),
        ("{exp}/asr2_stats/done", "{exp}/logmel_stats/done"),
        (1,),
    ),
    Stage(
        3,
        "training",
        ("asr2_train", "logmel_train"),
        ("{exp}/asr2/done", "{exp}/logmel/done"),
        (1, 2),
    ),
    Stage(
        4,
        "decoding",
        ("asr2_decode", "logmel_decode"),
        ("{exp}/asr2/decode/test/done", "{exp}/logmel/decode/test/done"),
        (1, 3),
    ),
    Stage(5, "scoring", ("asr2_score",), ("{exp}/score/scores.json",), (1, 4)),
)

TTS2 = (
    Stage(1, "alignment", ("tts2_align",), ("{exp}/align/done",), ()),
    Stage(2, "data files", ("tts2_export",), ("{exp}/data/info.json",), (1,)),
    Stage(3, "statistics", ("tts2_stats",), ("{exp}/tts2_stats/done",), (2,)),
    Stage(4, "training", ("tts2_train",), ("{exp}/tts2/done",), (2, 3)),
    Stage(
        5,
        "decoding",
        ("tts2_decode", "tts2_gather", "tts2_render"),
        ("{exp}/render/audio/wav.scp",),
        (2, 4),
    ),
    Stage(6, "judging", ("tts2_source", "tts2_judge"), ("{exp}/judge/done",), (2, 5)),
    Stage(7, "scoring and report", ("tts2_score",), ("{exp}/report/report.html",), (2, 5, 6)),
)

STAGES: dict[str, tuple[Stage, ...]] = {"asr2": ASR2, "tts2": TTS2}
"""Recipe -> its stages."""
