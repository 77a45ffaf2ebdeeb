"""``scores.json`` of a recipe of UniAudio 2.0, its tables, and its ``RESULTS.md``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from uas_plugin.atomic import read_jsonl
from uas_plugin.audiollm.uniaudio2.clips import read_clips
from uas_plugin.audiollm.uniaudio2.evaluate import CONTROLS, GENERATION, UNDERSTANDING
from uas_plugin.audiollm.uniaudio2.renderings import ROWS
from uas_plugin.errors import UASError
from uas_plugin.evaluation.results import (
    corpus_sections,
    environment,
    markdown_table,
)
from uas_plugin.evaluation.run_folder import RunFolder
from uas_plugin.evaluation.scoring import FORMAT, config_facts, data_facts
from uas_plugin.evaluation.tables import (
    Cell,
    Column,
    Row,
    Table,
    figure_map,
    model_table,
    number,
    own_cell,
)
from uas_plugin.evaluation.uniaudio2_figures import (
    BRANCHES,
    FEW_SHOT_CONTROLS,
    GROUPS,
    Figures,
    distance_figures,
    task_figures,
    usage_figures,
)
from uas_plugin.provenance import provenance

Scores = Mapping[str, Any]


def score(run: RunFolder, conf: Mapping[str, Any]) -> dict[str, Any]:
    """All figures of a decoded run.

    Raises:
        UASError: a file of an earlier stage is missing.
    """
    make = Figures(conf["bootstrap_resamples"], conf["seed"])
    info = _json(run.dump / "lm" / "info.json", 5)
    folder = run.exp / "decode" / "tasks"
    answers = {
        f"{task}.{control}": _rows(folder / f"{task}.{control}.jsonl", control == "none")
        for task in (*UNDERSTANDING, *GENERATION)
        for control in CONTROLS
    }
    branches = {
        branch: [_rows(path) for path in sorted(run.exp.glob(f"decode/{branch}.*/few_shot.jsonl"))]
        for branch in BRANCHES
    }
    sizes = _json(run.exp / "codec" / "export" / "config.json", 4)["codec"]
    codes = {"reasoning": sizes["reasoning_codes"], "reconstruction": sizes["codes"]}
    figures = [
        *task_figures(make, answers, info["held_out"]),
        *distance_figures(make, _rows(folder / ROWS)),
        *make.few_shot({name: runs for name, runs in branches.items() if runs}),
        *usage_figures(read_clips(run.dump / "clips" / "test"), codes),
    ]
    return {
        "format": FORMAT,
        "kind": "run",
        "name": run.corpus,
        "corpus": run.corpus,
        "seed": conf["seed"],
        "seeds": len(branches["stage4"]),
        "held_out": info["held_out"],
        "options": _options(run.exp / "conf" / "run.json"),
        "figures": [figure.to_json() for figure in figures],
        "data": data_facts(run),
        "config": config_facts(run.exp / "conf"),
        "provenance": provenance(),
    }


def _options(path: Path) -> str:
    """The words after ``./run.sh`` that made the run; its own folder of recordings is not named."""
    made = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    words = [f"--corpus {made['corpus']}"] if made.get("corpus", "mini") != "mini" else []
    words += ["--corpus_dir DIR"] if made.get("corpus_dir") else []
    words += [f"size={made['size']}"] if made.get("size", "full") != "full" else []
    return " ".join([*words, *made.get("overrides", ())])


def _rows(path: Path, required: bool = True) -> list[dict[str, Any]]:
    if not path.exists():
        if required:
            raise UASError(f"{path} is missing: stage 8 (decoding) makes it")
        return []
    return list(read_jsonl(path))


def _json(path: Path, stage: int) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UASError(f"{path} is missing or damaged: stage {stage} makes it") from None


# --- tables --------------------------------------------------------------------------------------

_READ = "Read back: what the model itself answers to the ids that it made."


def tables(scores: Scores) -> list[Table]:
    """The tables of a run, those without figures left out."""
    found = [
        _recognition(scores),
        _captions(scores),
        _questions(scores),
        _denoising(scores),
        *_few_shot(scores),
        _codec(scores),
    ]
    return [table for table in found if table is not None]


def _recognition(scores: Scores) -> Table | None:
    columns = [Column("WER en", "en"), Column("CER zh", "zh"), Column("No audio came", "failed")]
    figures = [
        {**f, "id": f["id"].replace("lm.asr_", "asr.")} for f in scores["figures"]
    ]  # one system a task
    rows = [
        Row("Recognition (ASR)", "asr"),
        Row("… another clip's audio", "asr", "shuffled"),
        Row("… silence", "asr", "no_audio"),
        Row("Speech made of text (TTS), read back", "tts"),
        Row("… the recordings' own ids", "tts", "original"),
        Row("… against another text", "tts", "shuffled"),
    ]
    note = f"SEED-TTS-eval normalisation, corpus level. {_READ}"
    return model_table({"figures": figures}, "speech", "Speech: ASR and TTS", rows, columns, note)


def _captions(scores: Scores) -> Table | None:
    rows = [
        Row("Captioning", "lm"),
        Row("… another clip's audio", "lm", "shuffled"),
        Row("… silence", "lm", "no_audio"),
        Row("Sound made of a caption (TTA), read back", "tta"),
        Row("… the recordings' own ids", "tta", "original"),
        Row("… against another caption", "tta", "shuffled"),
        Row("most frequent class", "lm", "majority"),
        Row("chance", "lm", "chance"),
    ]
    columns = [Column("Class right", "caption"), Column("No audio came", "failed")]
    note = (
        "Right: the words are a caption of the clip's class. Classes that the LM was trained on; "
        f"held out were {', '.join(scores['held_out']) or 'none'}. {_READ}"
    )
    title = "Sounds and music: captions and text-to-sound"
    return model_table(scores, "captions", title, rows, columns, note)


def _questions(scores: Scores) -> Table | None:
    names = [f["id"] for f in scores["figures"] if f["id"].startswith("lm.qa_")]
    columns = [Column("All", "qa")]
    columns += [Column(n.removeprefix("lm.qa_").capitalize(), n.removeprefix("lm.")) for n in names]
    rows = [
        Row("Unified LM", "lm"),
        Row("… another clip's audio", "lm", "shuffled"),
        Row("… silence", "lm", "no_audio"),
        Row("most frequent answer", "lm", "majority"),
        Row("chance", "lm", "chance"),
    ]
    note = "Multiple choice; the answer must be the right option's text."
    return model_table(scores, "questions", "Audio questions: accuracy", rows, columns, note)


def _denoising(scores: Scores) -> Table | None:
    columns = [
        Column("Log-mel distance", "distance"),
        Column("WER en", "en"),
        Column("CER zh", "zh"),
        Column("No audio came", "failed"),
    ]
    rows = [
        Row("Denoised", "denoise"),
        Row("the noisy ids themselves", "denoise", "noisy"),
        Row("the clean ids", "denoise", "original"),
        Row("another clean clip", "denoise", "other"),
        Row("… against another text", "denoise", "shuffled"),
    ]
    note = f"Distance (nats) to the codec's rendering of the clean ids. {_READ}"
    return model_table(scores, "denoising", "Denoising", rows, columns, note)


def _few_shot(scores: Scores) -> list[Table]:
    figures = figure_map(scores)
    groups = [g for g in GROUPS if f"few_shot_stage4.{g}" in figures]
    if not groups:
        return []
    header = ("", *(GROUPS[g].capitalize() for g in groups))
    rows: list[tuple[Cell, ...]] = []
    own: list[bool] = []

    def add(label: str, is_own: bool, cells: Sequence[Cell]) -> None:
        rows.append((Cell(label), *cells))
        own.append(is_own)

    for branch, name in BRANCHES.items():
        found = [figures[f"few_shot_{branch}.{g}"] for g in groups]
        add(name.capitalize(), True, [own_cell(figure) for figure in found])
        seeds = [", ".join(number(v) for v in f["detail"]["seeds"]) for f in found]
        add("… each seed", False, [Cell(text) for text in seeds])
        for control in FEW_SHOT_CONTROLS:
            values = [f["baselines"][control] for f in found]
            add(f"… {control.replace('_', ' ')}", False, [Cell(number(v), v) for v in values])
    add("chance", False, [Cell(number(0.5), 0.5) for _ in groups])
    gains = [own_cell(figures[f"few_shot_gain.{g}"]) for g in groups]
    add("Gain by stage 4", True, gains)
    counts = [figures[f"few_shot_stage4.{g}"]["n"] for g in groups]
    add("clips", False, [Cell(str(n), n) for n in counts])
    note = (
        "One clip of each of two sounds is shown with its label; the answer is the label that the "
        f"model holds likelier for a third clip. Means of {scores['seeds']} seeds of stage 4; "
        "seeds and clips are drawn again for the intervals. Swapped: the shown labels change "
        "places; a model that goes by what is shown then falls as far below one half. Shuffled: "
        "another clip is asked about."
    )
    title = "Few-shot classification of sounds, two ways"
    return [Table("few_shot", title, header, tuple(rows), tuple(own), note)]


def _codec(scores: Scores) -> Table | None:
    columns = [
        Column("Reasoning", "usage_reasoning"),
        Column("Reconstruction", "usage_reconstruction"),
    ]
    note = "Share of a codebook that the test clips use, mean of the eight."
    return model_table(
        scores, "codec", "Codes in use", [Row("ReasoningCodec", "codec")], columns, note
    )


# --- RESULTS.md ----------------------------------------------------------------------------------


def render(all_scores: Sequence[Scores], recipe_dir: Path, before: Mapping[str, str]) -> str:
    """``RESULTS.md``: a section a corpus; one that was not run here keeps the section it had."""
    recipe = "/".join(recipe_dir.resolve().parts[-3:])
    sections = dict(before)
    for scores in all_scores:
        corpus = scores["corpus"]
        line = f"cd {recipe} && ./run.sh {scores['options']}".rstrip()
        facts = [
            f"{split} {facts['clips']} clips, {facts['hours'] * 60:.1f} min"
            for split, facts in scores["data"].items()
        ]
        parts = [
            f"## Corpus {corpus}",
            f"### Environments\n\n{environment(scores)}",
            f"Data: {'; '.join(facts)}.",
            *(f"### {table.title}\n\n{markdown_table(table)}" for table in tables(scores)),
            f"### How to reproduce\n\n```sh\n{line}\n```",
        ]
        sections[corpus] = "\n\n".join(parts)
    lead = (
        "Rows in bold are this recipe's; every other row is a baseline or control of the same "
        "figures on the same clips. In brackets: 95 % bootstrap interval over clips."
    )
    order = sorted(sections, key=lambda name: (name != "mini", name))
    parts = [
        "<!-- Generated by stage 9 (scoring). Changes made by hand are lost. -->",
        f"# RESULTS of {recipe}",
        lead,
        *(sections[name] for name in order),
    ]
    return "\n\n".join(parts) + "\n"


def write_results(recipe_dir: Path, exp_root: Path, output: Path) -> int:
    """Merge the scores of every corpus below ``exp_root`` into ``output``; how many there were.

    Raises:
        UASError: there are none.
    """
    from uas_plugin.atomic import write_text

    found = [_json(path, 9) for path in sorted(exp_root.glob("*/score/scores.json"))]
    if not found:
        raise UASError(f"no scores below {exp_root}: stage 9 (scoring) makes them")
    before = corpus_sections(output.read_text(encoding="utf-8")) if output.exists() else {}
    write_text(output, render(found, recipe_dir, before))
    return len(found)
