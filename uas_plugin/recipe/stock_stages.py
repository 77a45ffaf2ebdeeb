"""Stages of the recipes of stock ESPnet models."""

from __future__ import annotations

from uas_plugin.recipe.stages import Stage

ASR2 = (
    Stage(1, "data files", ("asr2_export",), ("{exp}/data/info.json",), ()),
    Stage(
        2,
        "statistics",
        ("asr2_stats", "logmel_stats"),
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
        ("asr2_decode", "asr2_decode_untrained", "logmel_decode"),
        ("{exp}/asr2/decode/test/done", "{exp}/logmel/decode/test/done"),
        (1, 3),
    ),
    Stage(5, "scoring", ("asr2_score",), ("{exp}/score/scores.json",), (1, 4)),
)

STAGES: dict[str, tuple[Stage, ...]] = {"asr2": ASR2}
"""Recipe -> its stages."""
