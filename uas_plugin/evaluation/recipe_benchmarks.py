"""The benchmarks that a recipe can run without foreign data, with what a model must beat."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from uas_plugin.evaluation.benchmarks import get_benchmark
from uas_plugin.evaluation.compare import compare_runs
from uas_plugin.evaluation.models import load_model
from uas_plugin.evaluation.models.base import ModelOptions
from uas_plugin.evaluation.runs.options import RunOptions
from uas_plugin.evaluation.runs.run import run_model
from uas_plugin.evaluation.tables import Table

FOLDER, INFO = "evaluate", "info.json"

#: Folder of a run -> (the row's name, kind of adapter).
MODELS = {
    "trained": ("AudioLLM", "audiollm"),
    "text_only": ("AudioLLM, text only", "text"),
    "majority": ("majority letter", "majority"),
    "guess": ("uniform guess", "guess"),
}
#: Benchmark -> the models that can answer it.
ASKED = {
    "questions": tuple(MODELS),
    "corpus_en": ("trained", "text_only"),
    "corpus_zh": ("trained", "text_only"),
}


def run_all(
    cuts: Path, model: Path, tokenizer: Path | None, output: Path, section: Mapping[str, Any]
) -> list[Path]:
    """Run every benchmark that has an item; the folders of the runs.

    Args:
        cuts: annotated test set, ``cuts.jsonl.gz``. model: exported AudioLLM.
        tokenizer: exported tokenizer, for the unit edit distance; None leaves it out.
        output: a folder a benchmark, then one a model.
        section: options of decoding: seed, batch size, and which questions are asked.

    Raises:
        UASError: a file is missing or wrong.
    """
    from uas_plugin.audiollm.options import DecodeOptions, from_section

    decode = from_section(DecodeOptions, section, "decode")
    data = {"questions": output / "data" / "questions"}
    _write_questions(cuts, model, data["questions"], decode)
    adapters = {
        name: load_model(
            kind if kind in ("guess", "majority") else f"{kind}:{model}",
            ModelOptions(batch_size=decode.batch_size),
        )
        for name, (_, kind) in MODELS.items()
    }
    folders = []
    for benchmark_name, asked in ASKED.items():
        benchmark, folder = get_benchmark(benchmark_name), data.get(benchmark_name, cuts.parent)
        if next(iter(benchmark.items(folder)), None) is None:
            logging.info("%s: this corpus has no item of it", benchmark.title)
            continue
        # No protocol prescribes the length of the recipe's own answers, and a model that never
        # ends one would write thousands of tokens.
        most = decode.text.get("max_new_tokens", benchmark.max_new_tokens)
        benchmark.max_new_tokens = min(benchmark.max_new_tokens, int(most))
        for name in asked:
            run = output / benchmark_name / name
            options = RunOptions(seeds=(decode.seed,))
            title, _ = MODELS[name]
            run_model(benchmark, folder, adapters[name], run, options, name=title,
                      batch_size=decode.batch_size)  # fmt: skip
            folders.append(run)
    if tokenizer is not None:
        from uas_plugin.evaluation.runs.tokens import run_ued

        run = output / "ued" / "tokenizer"
        spec = f"tokenizer={tokenizer}"
        run_ued(cuts, None, None, spec, run, seed=decode.seed, batch_size=16, device="cpu")
        folders.append(run)
    return folders


def recipe_tables(exp_dir: Path) -> list[Table]:
    """Tables of the benchmarks that :func:`run_all` left below ``exp_dir``; none where it has not.

    The papers' rows are left out: they are of other data.
    """
    path = exp_dir / FOLDER / INFO
    if not path.exists():
        return []
    runs = json.loads(path.read_text(encoding="utf-8"))["runs"]
    return compare_runs([path.parent / run for run in runs], published=False)


def _write_questions(cuts: Path, model: Path, folder: Path, decode: Any) -> None:
    """The questions that decoding asks, in MMAU's layout."""
    from uas_plugin.audiollm.vocabulary import Vocabulary
    from uas_plugin.data.manifests import load_cuts
    from uas_plugin.qa.class_questions import write_class_questions

    labels = Vocabulary.load(model).labels
    classes = {name: labels.get(name, ()) for name in decode.qa.fields}
    write_class_questions(
        load_cuts(cuts), folder, classes, choices=decode.qa.choices, seed=decode.seed
    )
