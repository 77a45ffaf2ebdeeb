"""Put all figures of a run together: ``scores.json``."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from uas_plugin.errors import UASError
from uas_plugin.evaluation import speech_figures, token_figures, understanding
from uas_plugin.evaluation.chat_figures import chat_figures
from uas_plugin.evaluation.config import ScoreConfig
from uas_plugin.evaluation.figures import Figure, passed
from uas_plugin.evaluation.questions import question_figures
from uas_plugin.evaluation.run_folder import Clip, RunFolder
from uas_plugin.evaluation.study import STUDY, study_figures
from uas_plugin.evaluation.understanding import Rows
from uas_plugin.provenance import provenance

FORMAT = 1
CONTROLS = ("none", "shuffled", "no_audio")
TOKENIZER_FACTS = ("codebook_size", "frame_rate", "pretrained")


def annotation_figures(
    system: str,
    clips: Sequence[Clip],
    decoded: Mapping[str, Rows],
    classes: Mapping[str, int],
    config: ScoreConfig,
) -> list[Figure]:
    """Fields, validity and the transcription inside the JSON, of one system.

    Args:
        system: first part of the figures' ids.
        clips: test clips; those without a response are left out, and logged.
        decoded: control -> rows by clip id; ``none`` is the system itself.
        classes: field -> number of its values.
        config: seeds and resamples.

    Raises:
        UASError: no clip has a response.
    """
    clips = understanding.answered(clips, decoded["none"], f"{system} uas")
    if not clips:
        raise UASError(f"{system}: no test clip has a UAS response: run stage 8 (decoding) again")
    # A control that covers only some clips would be compared on other clips than the figure.
    complete = {
        control: rows
        for control, rows in decoded.items()
        if control == "none" or (rows and all(clip.id in rows for clip in clips))
    }
    for control in set(decoded) - set(complete):
        logging.warning("%s: control '%s' lacks clips and is left out", system, control)
    texts = {name: understanding.transcriptions(rows) for name, rows in complete.items()}
    return [
        *understanding.field_figures(system, clips, complete, classes, config),
        *understanding.validity_figures(system, clips, complete, config),
        *understanding.recognition_figures(f"{system}.", clips, texts, config),
    ]


def recognition(
    prefix: str, clips: Sequence[Clip], decoded: Mapping[str, Rows], config: ScoreConfig
) -> list[Figure]:
    """The ASR task, scored on the clips that were asked."""
    if not decoded.get("none"):
        return []
    asked = [clip for clip in clips if clip.id in decoded["none"]]
    texts = {
        name: understanding.responses(rows)
        for name, rows in decoded.items()
        if name == "none" or (rows and all(c.id in rows for c in asked if c.text))
    }
    return understanding.recognition_figures(
        prefix, asked, texts, config, suffix_label=", ASR prompt"
    )


def _classes(run: RunFolder) -> dict[str, int]:
    return understanding.class_counts([*run.clips("train"), *run.clips("test")])


def tokenizer_figures(run: RunFolder, config: ScoreConfig) -> list[Figure]:
    """What the tokenizer's own decoder makes of its tokens."""
    real = run.decoded("tokenizer", "test")
    shuffled = run.decoded("tokenizer", "test_shuffled")
    if "uas" not in real:
        raise UASError(f"{run.exp}/tokenizer/decode/test.jsonl holds no row of task 'uas'")
    both = {"none": real["uas"], "shuffled": shuffled.get("uas", {})}
    asr = {"none": real.get("asr", {}), "shuffled": shuffled.get("asr", {})}
    return [
        *annotation_figures("tokenizer", run.clips("test"), both, _classes(run), config),
        *recognition("tokenizer.asr_", run.clips("test"), asr, config),
    ]


def lm_figures(run: RunFolder, config: ScoreConfig) -> list[Figure]:
    """Annotation, recognition and questions of the AudioLLM."""

    def controls(task: str, required: tuple[str, ...]) -> dict[str, Any]:
        return {
            control: run.decoded("audiollm", f"{task}.{control}", control in required).get(task, {})
            for control in CONTROLS
        }

    clips = run.clips("test")
    questions = controls("qa", ("none", "no_audio"))
    return [
        *annotation_figures("lm", clips, controls("uas", CONTROLS), _classes(run), config),
        *recognition("lm.asr_", clips, controls("asr", ("none",)), config),
        *(question_figures("lm", questions, config) if questions["none"] else []),
    ]


def token_only_figures(run: RunFolder, config: ScoreConfig) -> list[Figure]:
    """Clustering, codebook use and probe."""
    return [
        *token_figures.usage_figures(run),
        *token_figures.cluster_figures(run, config),
        *token_figures.probe_figures(run, config),
    ]


def _with_targets(figures: list[Figure], targets: Mapping[str, float]) -> list[dict[str, Any]]:
    known = {figure.id for figure in figures}
    for name in targets:
        if name not in known:
            # A corpus cut down for a test may lack a field: no figure, hence no mark.
            logging.warning("no figure '%s' in this run: its target is left out", name)
    rows = []
    for figure in figures:
        row = figure.to_json()
        if figure.id in targets:
            target = float(targets[figure.id])
            row |= {"target": target, "passed": passed(figure.value, target, figure.better)}
        rows.append(row)
    return rows


def config_facts(conf_dir: Path) -> dict[str, dict[str, Any]]:
    """SHA-256 of every resolved section file and the seed it names."""
    import yaml

    facts: dict[str, dict[str, Any]] = {}
    for path in sorted(conf_dir.glob("*.yaml")):
        data = path.read_bytes()
        facts[path.stem] = {"sha256": hashlib.sha256(data).hexdigest()}
        section = yaml.safe_load(data)
        if isinstance(section, dict) and section.get("seed") is not None:
            facts[path.stem]["seed"] = section["seed"]
    return facts


def data_facts(run: RunFolder) -> dict[str, Any]:
    """Clips, hours and kinds of each split."""
    facts: dict[str, Any] = {}
    for split in ("train", "dev", "test"):
        clips = run.clips(split)
        facts[split] = {
            "clips": len(clips),
            "hours": round(sum(clip.duration for clip in clips) / 3600, 4),
            "kinds": dict(sorted(Counter(clip.kind for clip in clips).items())),
        }
    return facts


def score_run(run: RunFolder, config: ScoreConfig) -> dict[str, Any]:
    """All figures of a finished run, ready for ``scores.json``.

    A pretrained tokenizer has no text decoder: there are no figures of what it reads, neither from
    its tokens nor from reconstructed or generated audio.
    """
    figures = [
        *([] if run.pretrained else tokenizer_figures(run, config)),
        *lm_figures(run, config),
        *token_only_figures(run, config),
        *speech_figures.reconstruction_figures(run, config),
        *speech_figures.tts_figures(run, config),
        *chat_figures(run, config),
    ]
    return _document(run, config, figures, kind="run", name=run.corpus, conf=run.exp / "conf")


def score_ablation(run: RunFolder, config: ScoreConfig, conf_dir: Path) -> dict[str, Any]:
    """Figures of an ablation, for which only the tokenizer was trained.

    ``run.exp`` is ``exp/<corpus>/ablations/<name>``; its shuffled control is optional, and the
    untrained tokenizer is the main run's business.
    """
    real = run.decoded("tokenizer", "test")
    shuffled = run.decoded("tokenizer", "test_shuffled", required=False)
    if "uas" in real:
        both = {"none": real["uas"]}
        if shuffled.get("uas"):
            both["shuffled"] = shuffled["uas"]
        figures = annotation_figures("tokenizer", run.clips("test"), both, _classes(run), config)
    else:  # trained on transcriptions only
        figures = []
    asr = {"none": real.get("asr", {}), "shuffled": shuffled.get("asr", {})}
    figures += recognition("tokenizer.asr_", run.clips("test"), asr, config)
    figures += token_only_figures(run, config)
    return _document(run, config, figures, kind="ablation", name=run.exp.name, conf=conf_dir)


def score_study(run: RunFolder, config: ScoreConfig, runs: Sequence[Path]) -> dict[str, Any]:
    """Figures of the study of AudioLLMs.

    Args:
        runs: folders ``<arm>/seed<number>`` of finished trainings.
    """
    figures = study_figures(runs, config)
    document = _document(run, config, figures, kind=STUDY, name=run.corpus, conf=run.exp / "conf")
    arms = sorted({folder.parent.name for folder in runs})
    facts = {arm: config_facts(run.exp / "conf" / "lm_study" / arm) for arm in arms}
    document["config"] = {
        f"{arm}/{name}": fact for arm, found in facts.items() for name, fact in found.items()
    }
    return document


def _document(
    run: RunFolder,
    config: ScoreConfig,
    figures: list[Figure],
    *,
    kind: str,
    name: str,
    conf: Path,
) -> dict[str, Any]:
    targets = config.targets_of(run.corpus) if kind == "run" else {}
    info = run.token_info("tokenizer", "test")
    return {
        "format": FORMAT,
        "kind": kind,
        "name": name,
        "corpus": run.corpus,
        "provenance": provenance(),
        "config": config_facts(conf),
        "seed": config.seed,
        "data": data_facts(run),
        "tokenizer": {key: info[key] for key in TOKENIZER_FACTS if key in info},
        "figures": _with_targets(figures, targets),
    }
