"""Compose a run's configuration and write its section files."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from uas_plugin.config.compose import choices, compose
from uas_plugin.config.sections import (
    TOKENIZER_SECTIONS,
    build_sections,
    learns_speech_chat,
    to_yaml,
    trains_vocoder,
)
from uas_plugin.errors import UASError, suggest
from uas_plugin.recipe.folders import ROOT, Run, locate
from uas_plugin.recipe.lock import is_running
from uas_plugin.recipe.pipelines import UAS, pipeline_of
from uas_plugin.recipe.schema import validate_composed, validate_settings
from uas_plugin.recipe.stock_run import StockRun

_PLAIN = re.compile(r"[\w/.+=@%:,~-]+")

ABLATED = ("tokenizer_align", "tokenizer", "codebook", "dump", "score")
"""Sections that a tokenizer variant has of its own."""

STUDIED = ("lm_data", "audiollm", "decode")
"""Sections that an arm of the study of AudioLLMs has of its own."""


def prepare(
    recipe_dir: str | Path,
    *,
    corpus: str = "mini",
    size: str = "full",
    corpus_dir: str | None = None,
    overrides: Sequence[str] | None = None,
    files: Mapping[str, str] | None = None,
    **folders: str | None,
) -> tuple[Run, dict[Path, str]]:
    """Compose and validate a run's configuration; nothing is written yet.

    Args:
        recipe_dir: the recipe.
        corpus: a preset of the group ``corpus``, or any name when ``corpus_dir`` is given.
        size: option of the group ``size``.
        corpus_dir: folder of recordings (absolute); default: that of the run's last call.
        overrides: Hydra overrides (``None``: those of the run's last call).
        files: group -> YAML file (``None``: those of the run's last call).
        folders: ``datadir``, ``dumpdir``, ``expdir``, ``results``.

    Returns:
        The run, and the text of each of its section files.

    Raises:
        UASError: unknown corpus, key or option, or a value that does not fit.
    """
    places = locate(recipe_dir, corpus, size, **folders)
    for place in places.values():
        _check_folder(place)
    last = _last_run(Path(places["exp"]) / "conf")
    if last is not None:
        corpus_dir = corpus_dir or last.corpus_dir
        overrides = last.overrides if overrides is None else overrides
        files = last.files if files is None else files
    overrides, files = list(overrides or ()), dict(files or {})
    fixed = [*_corpus_overrides(recipe_dir, corpus, corpus_dir), f"size={size}"]
    config = compose(recipe_dir, [*fixed, *overrides], files)
    validate_composed(config)
    if "corpus_dir" in config["data"] and not config["data"]["corpus_dir"]:
        raise UASError(f"corpus {corpus} needs --corpus_dir DIR: a folder with metadata.jsonl")
    texts = {Path(f"{k}.yaml"): to_yaml(v) for k, v in build_sections(config).items()}
    common: dict[str, Any] = {
        "corpus": corpus,
        "size": size,
        "corpus_dir": corpus_dir,
        "overrides": tuple(overrides),
        "files": files,
        **places,
    }
    if (pipeline := pipeline_of(recipe_dir)) != UAS:
        start = config["codec"]["start"]
        run = Run(
            **common,
            pipeline=pipeline,
            gpus=config["trainer"].get("ngpu", 0),
            seeds=tuple(config["lm"]["seeds"]),
            pretrained=bool(start["folder"] or start["encoder"]),
            refined=bool(config["codec"]["refinement"]),
        )
        return run, texts
    _check_annotate(config["annotate"])
    pretrained = config["tokenizer"].get("pretrained")
    if pretrained:
        _check_outside(pretrained["model"], ROOT / places["exp"] / "tokenizer")
    # Ablations are variants of a training: beside a pretrained tokenizer there is none.
    ablations = [] if pretrained else config["ablations"]
    for name in ablations:
        texts.update(_ablation(recipe_dir, name, [*fixed, *overrides], files))
    study = config["lm_study"]
    for name in study["arms"]:
        texts.update(_study_arm(recipe_dir, name, [*fixed, *overrides], files))
    run = Run(
        **common,
        shards=config["tokenizer"]["dump"]["num_shards"],
        shar_parts=config["storage"]["parts"] if config["storage"]["shard_size"] else 0,
        gpus=config["trainer"].get("ngpu", 0),
        ablations=tuple(Path(name).name for name in ablations),
        lm_study=tuple(Path(name).name for name in study["arms"]),
        study_seeds=tuple(study["seeds"]) if study["arms"] else (),
        pretrained=bool(pretrained),
        trained_vocoder=trains_vocoder(config),
        spoken=("tts", "speech_chat") if learns_speech_chat(config) else ("tts",),
        annotate=tuple(config["annotate"]["sets"]),
    )
    return run, texts


def _check_folder(path: str) -> None:
    """Refuse a folder that the shell would take apart: commands of rules name it unquoted."""
    if not _PLAIN.fullmatch(path):
        raise UASError(
            f"folder {path!r} of the run: it may hold letters, digits and any of /._-+=@%:,~ "
            "since it stands in commands; choose another"
        )


def _last_run(conf: Path) -> Run | None:
    return Run.load(conf) if (ROOT / conf / "run.json").exists() else None


def _corpus_overrides(recipe_dir: str | Path, corpus: str, corpus_dir: str | None) -> list[str]:
    presets = choices(recipe_dir, "corpus")
    if corpus in presets:
        chosen = [f"corpus={corpus}"]
    elif corpus_dir:
        chosen = ["corpus=folder", f"corpus_name={corpus}"]
    else:
        raise UASError(
            f"unknown corpus '{corpus}' (there are: {', '.join(presets)}; a corpus of your own"
            f" needs --corpus_dir).{suggest(corpus, presets)}"
        )
    if corpus_dir:
        chosen.append(f"corpus_dir={quoted(corpus_dir)}")
    return chosen


def quoted(text: str) -> str:
    """``text`` as a string of Hydra's override grammar."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _check_annotate(section: Mapping[str, Any]) -> None:
    """Refuse wrong options of annotation before anything runs, not hours later."""
    from uas_plugin.annotate.options import AnnotateOptions

    options = AnnotateOptions.from_mapping(section)
    if section["sets"] and not (options.url and options.model):
        raise UASError("annotate.sets needs a server: give annotate.url and annotate.model")


def _check_outside(model: str, folder: Path) -> None:
    """Refuse a pretrained tokenizer in the folder that the run empties before it exports to it."""
    if Path(model).is_dir() and Path(model).resolve().is_relative_to(folder.resolve()):
        raise UASError(
            f"tokenizer.pretrained.model {model} lies where this run writes its own tokenizer: "
            "give another --expdir"
        )


def _ablation(
    recipe_dir: str | Path, name: str, overrides: list[str], files: dict[str, str]
) -> dict[Path, str]:
    """Section files of a tokenizer variant, an option of the group ``tokenizer``."""
    other = [item for item in overrides if not item.startswith("tokenizer=")]
    kept = {group: path for group, path in files.items() if group != "tokenizer"}
    config = compose(recipe_dir, [*other, f"tokenizer={name}"], kept)
    validate_composed(config)
    if config["tokenizer"].get("pretrained"):
        raise UASError(f"ablations: tokenizer '{name}' is loaded, not trained")
    sections = build_sections(config)
    folder = Path("ablations") / Path(name).name
    return {folder / f"{section}.yaml": to_yaml(sections[section]) for section in ABLATED}


def _study_arm(
    recipe_dir: str | Path, name: str, overrides: list[str], files: dict[str, str]
) -> dict[Path, str]:
    """Section files of an arm of the study, an option of the group ``lm``."""
    other = [item for item in overrides if not item.startswith(("lm=", "decode="))]
    kept = {group: path for group, path in files.items() if group != "lm"}
    config = compose(recipe_dir, [*other, f"lm={name}", "decode=study"], kept)
    validate_composed(config)
    sections = build_sections(config)
    if not config["lm"]["data"]["audio"]:
        # What never heard anything is asked as it learned.
        sections["decode"]["controls"] = ["no_audio"]
    folder = Path("lm_study") / Path(name).name
    return {folder / f"{section}.yaml": to_yaml(sections[section]) for section in STUDIED}


def write(run: Run | StockRun, texts: Mapping[Path, str]) -> dict[Path, tuple[bytes, int] | None]:
    """Write the section files whose content changed, and ``run.json``.

    Where the tokenizer was trained before and is loaded now, or the other way round, the sections
    that are no longer the run's are removed: going back must be a change that Snakemake sees.

    Returns:
        File -> what stood there before: (content, modification time in ns), or ``None``.
    """
    from uas_plugin.atomic import write_text

    before: dict[Path, tuple[bytes, int] | None] = {}
    for name, text in texts.items():
        path = ROOT / run.conf / name
        old = _state(path)
        if old is None or old[0] != text.encode():
            before[path] = old
            write_text(path, text)
    for section in TOKENIZER_SECTIONS:
        path = ROOT / run.conf / f"{section}.yaml"
        if Path(path.name) not in texts and path.exists():
            before[path] = _state(path)
            path.unlink()
    record = ROOT / run.conf / "run.json"
    old_record = _state(record)
    if run.save():
        before[record] = old_record
    return before


def _state(path: Path) -> tuple[bytes, int] | None:
    """Content and modification time (ns) of a file, ``None`` where there is none."""
    return (path.read_bytes(), path.stat().st_mtime_ns) if path.exists() else None


@contextlib.contextmanager
def written(run: Run | StockRun, texts: Mapping[Path, str], *, keep: bool) -> Iterator[None]:
    """Have the section files written inside the block; ``keep=False`` (dry run) undoes it after.

    The undoing restores modification times too: a dry run must not make a stage look stale.
    """
    before = write(run, texts)
    try:
        yield
    finally:
        if not keep:
            for path, old in before.items():
                if old is None:
                    path.unlink(missing_ok=True)
                else:
                    path.write_bytes(old[0])
                    os.utime(path, ns=(old[1], old[1]))


def for_snakemake(settings: Mapping[str, Any]) -> Run:
    """The run of a Snakefile's ``config``: that of ``conf``, or the one its keys describe.

    Without ``overrides`` the run's last ones hold, so that a bare ``snakemake`` goes on with what
    ``run.sh`` began. Section files are written where their content changes.

    Raises:
        UASError: unknown keys, or a configuration that does not fit.
    """
    values = {key: str(value) for key, value in settings.items()}
    values = validate_settings(values)
    if "conf" in values:
        return Run.load(values["conf"])
    overrides = values.get("overrides")
    corpus_dir = values.get("corpus_dir")
    folders: dict[str, Any] = {n: values.get(n) for n in ("datadir", "dumpdir", "expdir")}
    run, texts = prepare(
        ROOT / values["recipe"],
        corpus=values["corpus"],
        size=values["size"],
        corpus_dir=os.path.abspath(corpus_dir) if corpus_dir else None,
        overrides=None if overrides is None else shlex.split(overrides),
        **folders,
    )
    if is_running(ROOT / run.exp):
        # A look at a run (-n, --dag, --report) must not change its configuration under it.
        return Run.load(run.conf)
    write(run, texts)
    return run
