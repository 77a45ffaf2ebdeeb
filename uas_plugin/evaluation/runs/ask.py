"""Ask a model what has not been answered yet."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from uas_plugin.errors import NAMED, UASError
from uas_plugin.evaluation.benchmarks.base import Benchmark, Item
from uas_plugin.evaluation.models.base import FittedAdapter, Query, SpeechAdapter, item_seed
from uas_plugin.evaluation.runs.options import RunOptions
from uas_plugin.evaluation.runs.speech import Listener
from uas_plugin.evaluation.runs.store import ResponseWriter, answered, shard_file
from uas_plugin.progress import progress


def ask(
    benchmark: Benchmark,
    data: Path,
    model: Any,
    folder: Path,
    options: RunOptions,
    *,
    shard: int = 0,
    num_shards: int = 1,
    batch_size: int = 16,
    listener: Listener | None = None,
) -> int:
    """Ask the items of one shard that no process has answered; returns how many are left in all.

    Items are dealt to shards one by one. A killed process loses at most the batch in hand.

    Args:
        model: an adapter; of kind ``tts`` one that speaks, and then ``listener`` hears it.
        folder: of the answers. batch_size: questions given to the adapter at a time.

    Raises:
        UASError: audio is missing and not allowed to be; the model cannot do what is asked.
    """
    items = list(benchmark.items(data))
    _unique(items, benchmark)
    present = _present(items, options)
    if isinstance(model, FittedAdapter):
        model.fit(
            [_query(benchmark, item, options, 0) for item in present],
            [benchmark.reference(item) for item in present],
        )
    known = answered(folder)
    own = [
        (item, seed)
        for item in present[shard::num_shards]
        for seed in options.seeds
        if (seed, item.id) not in known
    ]
    done = len(known)
    if own:
        with ResponseWriter(shard_file(folder, shard, num_shards)) as writer:
            batches = [own[at : at + batch_size] for at in range(0, len(own), batch_size)]
            for batch in progress(batches, desc=f"{benchmark.name}, shard {shard} of {num_shards}"):
                writer.write(_answers(benchmark, batch, model, options, listener))
                done += len(batch)
    known = answered(folder)
    return sum((seed, item.id) not in known for item in present for seed in options.seeds)


def _unique(items: Sequence[Item], benchmark: Benchmark) -> None:
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise UASError(f"{benchmark.title}: two items have the id {item.id!r}")
        seen.add(item.id)


def _present(items: Sequence[Item], options: RunOptions) -> list[Item]:
    """The items whose audio is there."""
    missing = [item for item in items if item.audio is not None and not item.audio.exists()]
    if not missing:
        return list(items)
    names = ", ".join(str(item.audio) for item in missing[:NAMED])
    text = f"the audio of {len(missing)} of {len(items)} items is missing: {names}"
    if len(missing) == len(items) or not options.allow_missing:
        hint = "" if len(missing) == len(items) else "; --allow_missing goes on without them"
        raise UASError(text + hint)
    logging.warning(text)
    gone = {item.id for item in missing}
    return [item for item in items if item.id not in gone]


def _query(benchmark: Benchmark, item: Item, options: RunOptions, seed: int) -> Query:
    return benchmark.query(
        item,
        prompt=benchmark.prompt(options.prompt),
        constrained=options.constrained,
        seed=item_seed(seed, item.id),
    )


def _answers(
    benchmark: Benchmark,
    batch: Sequence[tuple[Item, int]],
    model: Any,
    options: RunOptions,
    listener: Listener | None,
) -> Iterator[dict[str, Any]]:
    """Rows of a batch, complete before the first is written."""
    queries = [_query(benchmark, item, options, seed) for item, seed in batch]
    if benchmark.kind == "tts":
        if not isinstance(model, SpeechAdapter):
            raise UASError(f"model '{model.name}' does not speak: {benchmark.title} needs speech")
        if listener is None:
            raise UASError(f"{benchmark.title} needs a recogniser: name it with --judge")
        rows = listener.hear(queries, [seed for _, seed in batch], model.speak(queries))
    else:
        said = model.respond(queries)
        if len(said) != len(queries):
            raise UASError(f"model '{model.name}' gave {len(said)} answers to {len(queries)}")
        chosen = options.constrained or getattr(model, "names_options", False)
        rows = [
            {"id": query.id, "seed": seed, "response": _named(benchmark, query, text, chosen)}
            for query, (_, seed), text in zip(queries, batch, said, strict=True)
        ]
    return iter(rows)


def _named(benchmark: Benchmark, query: Query, text: str, chosen: bool) -> str:
    """The answer; one that is an option, in the words that the protocol understands."""
    if not chosen:
        return text
    if text not in query.choices:
        raise UASError(f"item {query.id!r}: the constrained answer {text[:60]!r} is no option")
    return benchmark.said(query.choices, query.choices.index(text))
