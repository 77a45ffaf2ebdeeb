"""The ten stages of a recipe for UniAudio 2.0 (``pipeline: uniaudio2`` in its configuration)."""

from __future__ import annotations

from uas_plugin.recipe.stages import STAGES, Stage

_CLIPS = tuple(f"{{dump}}/clips/{part}/info.json" for part in ("train", "dev", "test"))

UNIAUDIO2_STAGES = (
    *STAGES[:2],  # data, text tokenizer
    Stage(
        3,
        "small frozen encoder",
        ("encoder_train", "codec_start"),
        ("{exp}/codec/start/model.safetensors",),
        (1, 2),
    ),
    Stage(
        4,
        "ReasoningCodec training",
        ("reasoning_train", "refinement_train", "reconstruction_train"),
        ("{exp}/codec/export/model.safetensors",),
        (1, 2, 3),
    ),
    Stage(
        5, "ids and LM data", ("clips", "sequences"), (*_CLIPS, "{dump}/lm/info.json"), (1, 2, 4)
    ),
    Stage(
        6,
        "LM stages 1 to 3",
        ("lm_stage",),
        ("{exp}/lm/stage3/done",),
        (5,),
    ),
    Stage(
        7,
        "LM stage 4, with and without auditory sentences",
        ("lm_branch",),
        ("{exp}/lm/stage4.{seed}/export/model.safetensors",),
        (2, 6),
    ),
    Stage(
        8,
        "decoding",
        ("decode_tasks", "decode_few_shot"),
        ("{exp}/decode/tasks/done",),
        (4, 5, 7),
    ),
    Stage(9, "scoring", ("uniaudio2_score",), ("{exp}/score/scores.json",), (5, 8)),
    Stage(10, "report", ("uniaudio2_report",), ("{exp}/report/report.html",), (9,)),
)
