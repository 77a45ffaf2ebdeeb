"""The ten stages: which rules belong to each, and what each needs of earlier ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from uas_plugin.errors import UASError
from uas_plugin.recipe.folders import ROOT, Run

if TYPE_CHECKING:
    from uas_plugin.recipe.stock_run import StockRun


@dataclass(frozen=True)
class Stage:
    """One stage of ``run.sh``.

    Attributes:
        number: as in ``--stage``.
        title: for help and progress.
        rules: Snakemake rules; the target rule is ``stage<number>``.
        makes: templates of files by which a later stage sees that this one has run.
        needs: numbers of the stages whose files it reads.
    """

    number: int
    title: str
    rules: tuple[str, ...]
    makes: tuple[str, ...]
    needs: tuple[int, ...]


_CUTS = tuple(f"{{data}}/{part}/cuts.jsonl.gz" for part in ("train", "dev", "test"))
_TOKENS = tuple(f"{{dump}}/tokenizer/{part}/info.json" for part in ("train", "dev", "test"))

STAGES = (
    Stage(1, "data", ("data",), ("{data}/info.json", *_CUTS), ()),
    Stage(2, "text tokenizer", ("text",), ("{exp}/text/bpe.model",), (1,)),
    Stage(
        3,
        "tokenizer training",
        ("tokenizer_align", "codebook", "tokenizer_train", "tokenizer_export", "ablation_train"),
        ("{exp}/tokenizer/export/model.safetensors",),
        (1, 2),
    ),
    Stage(4, "token dump", ("dump_shard", "dump_merge"), _TOKENS, (1, 3)),
    Stage(
        5,
        "token decoder training",
        ("codec_train", "codec_export"),
        ("{exp}/codec/export/model.safetensors",),
        (1, 4),
    ),
    Stage(6, "LM data", ("lm_data", "lm_study_data"), ("{dump}/lm/info.json",), (2, 4)),
    Stage(
        7,
        "AudioLLM training",
        ("audiollm_train", "audiollm_export", "lm_study_arm"),
        ("{exp}/audiollm/export/model.safetensors",),
        (6,),
    ),
    Stage(
        8,
        "decoding",
        ("audiollm_decode", "codec_decode", "codec_decode_spoken", "tokenizer_decode"),
        (
            "{exp}/audiollm/decode/test/done",
            "{exp}/codec/decode/test/metrics.jsonl",
            "{exp}/tokenizer/decode/done",
        ),
        (1, 2, 3, 4, 5, 7),
    ),
    Stage(
        9,
        "scoring",
        (
            "benchmarks",
            "score",
            "score_schema",
            "questions",
            "lm_study_score",
            "ablation_score",
        ),
        ("{exp}/score/scores.json", "{exp}/score/schema.json", "{exp}/score/questions/info.json"),
        (1, 3, 4, 7, 8),
    ),
    Stage(10, "report", ("report",), ("{exp}/report/report.html",), (1, 4, 8, 9)),
)

# A pretrained tokenizer needs no data, and has no text decoder that could read tokens.
_PRETRAINED = {
    3: Stage(3, "pretrained tokenizer", ("tokenizer_pretrained",), STAGES[2].makes, ()),
    8: Stage(
        8,
        "decoding",
        ("audiollm_decode", "codec_decode", "codec_decode_spoken"),
        ("{exp}/audiollm/decode/test/done", "{exp}/codec/decode/test/metrics.jsonl"),
        (1, 4, 5, 7),
    ),
    9: replace(STAGES[8], rules=STAGES[8].rules[:-1]),
}
PRETRAINED_STAGES = tuple(_PRETRAINED.get(stage.number, stage) for stage in STAGES)
"""The stages of a run whose tokenizer is loaded instead of trained."""


WITH_VOCODER = replace(STAGES[4], rules=("codec_train", "vocoder_train", "codec_export"))
"""Stage 5 of a run that trains a vocoder too."""


def _annotated(sets: tuple[str, ...]) -> Stage:
    """Stage 1 of a run that labels these sets through a server."""
    made = (f"{{data}}/annotated/{name}/cuts.jsonl.gz" for name in sets)
    return replace(STAGES[0], rules=("data", "annotate"), makes=(*STAGES[0].makes, *made))


SHAR_RULES = ("shar_order", "shar_part", "shar_join")


def _stored(first: Stage) -> Stage:
    """Stage 1 of a run that stores its training set as a Shar."""
    made = "{data}/shar/train/info.json"
    return replace(first, rules=(*first.rules, *SHAR_RULES), makes=(*first.makes, made))


def stages_of(run: Run, chosen: tuple[Stage, ...] = STAGES) -> tuple[Stage, ...]:
    """``chosen`` as this run has them."""
    if run.pipeline != "uas":  # only the first recipes' stages depend on options
        return chosen
    table = list(PRETRAINED_STAGES if run.pretrained else STAGES)
    if run.trained_vocoder:
        table[WITH_VOCODER.number - 1] = WITH_VOCODER
    if run.annotate:
        table[0] = _annotated(run.annotate)
    if run.shar_parts:
        table[0] = _stored(table[0])
    return tuple(table[stage.number - 1] for stage in chosen)


def stage_of_rule(others: Sequence[Stage] = ()) -> dict[str, Stage]:
    """Rule name -> its stage, target rules and those of all kinds of runs included.

    ``others``: stages of other pipelines.
    """
    kinds = (*others, *PRETRAINED_STAGES, WITH_VOCODER, *STAGES)
    return {**by_rule(kinds), **dict.fromkeys(("annotate", *SHAR_RULES), STAGES[0])}


def by_rule(stages: Sequence[Stage]) -> dict[str, Stage]:
    """Rule name -> its stage, target rules included; the last that fits counts."""
    table = {rule: stage for stage in stages for rule in stage.rules}
    return table | {f"stage{stage.number}": stage for stage in stages}


def select(first: int, last: int, table: tuple[Stage, ...] = STAGES) -> tuple[Stage, ...]:
    """The stages ``first`` to ``last`` of ``table``.

    Raises:
        UASError: no such stages.
    """
    chosen = tuple(stage for stage in table if first <= stage.number <= last)
    if first not in range(1, len(table) + 1) or not chosen:
        raise UASError(f"there is no stage from {first} to {last}: stages are 1 to {len(table)}")
    return chosen


def check_needs(
    run: Run | StockRun, chosen: tuple[Stage, ...], table: tuple[Stage, ...] | None = None
) -> None:
    """Check that what the chosen stages (as the run has them) read is there, or will be made.

    Args:
        table: the run's stages (default: those of a uas recipe, as :func:`stages_of` has them).

    Raises:
        UASError: a file of an earlier stage is missing; names the stage that makes it.
    """
    coming = {stage.number for stage in chosen}
    table = table or stages_of(run)  # type: ignore[arg-type]
    for stage in chosen:
        for number in stage.needs:
            if number in coming:
                continue
            maker = table[number - 1]
            for template in maker.makes:
                path = run.fill(template)
                if not (ROOT / path).exists():
                    raise UASError(
                        f"stage {stage.number} ({stage.title}) needs {path}, which stage"
                        f" {number} ({maker.title}) makes: run.sh --stage {number}"
                        f" --stop_stage {number}"
                    )
