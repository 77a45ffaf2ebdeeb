"""One benchmark, one model or file of responses, one folder: from the questions to the scores."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from uas_plugin.evaluation.benchmarks.base import Benchmark
from uas_plugin.evaluation.runs.ask import ask
from uas_plugin.evaluation.runs.options import RESPONSES, RunOptions, describe, hashes, open_run
from uas_plugin.evaluation.runs.score import score_run
from uas_plugin.evaluation.runs.speech import Listener
from uas_plugin.evaluation.runs.store import response_files


def run_model(
    benchmark: Benchmark,
    data: Path,
    model: Any,
    folder: Path,
    options: RunOptions,
    *,
    name: str | None = None,
    shard: int = 0,
    num_shards: int = 1,
    batch_size: int = 16,
    listener: Listener | None = None,
) -> dict[str, Any] | None:
    """Ask a model what it has not answered, and score when nothing is left.

    Args:
        model: an adapter. folder: of the run. name: of the model in tables; default: its own.
        listener: hears what a model speaks (kind ``tts``).

    Returns:
        the scores; None while other shards have not finished.
    Raises:
        UASError: see :func:`~uas_plugin.evaluation.runs.ask.ask`,
            :func:`~uas_plugin.evaluation.runs.options.open_run` and
            :func:`~uas_plugin.evaluation.runs.score.score_run`.
    """
    known = {**model.provenance(), "name": name or model.name}
    judge = listener.settings() if listener else None
    record = open_run(folder, describe(benchmark, data, options, known, judge))
    responses = folder / RESPONSES
    left = ask(
        benchmark,
        data,
        model,
        responses,
        options,
        shard=shard,
        num_shards=num_shards,
        batch_size=batch_size,
        listener=listener,
    )
    if left:
        logging.info("%s: %d answers are left to other shards", folder, left)
        return None
    return score_run(benchmark, data, responses, folder, options, record)


def run_responses(
    benchmark: Benchmark,
    data: Path,
    responses: Path,
    folder: Path,
    options: RunOptions,
    judge: str | None = None,
) -> dict[str, Any]:
    """Score responses that were made elsewhere.

    Args:
        responses: a file of lines, or a folder of such files.
        judge: name of the recogniser that heard generated speech, as the user states it.
    """
    heard = {"name": judge, "as given": True} if judge else None
    facts = describe(benchmark, data, options, None, heard)
    facts["responses"] = {"sha256": hashes(response_files(responses), responses.parent)}
    record = open_run(folder, facts)
    return score_run(benchmark, data, responses, folder, options, record)
