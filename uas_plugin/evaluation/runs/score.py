"""Score a run's responses: one pass over the benchmark, whatever its size."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from uas_plugin.atomic import write_json, write_jsonl
from uas_plugin.errors import NAMED, UASError
from uas_plugin.evaluation.benchmarks.base import Benchmark, Item, ItemScore
from uas_plugin.evaluation.figures import Figure
from uas_plugin.evaluation.runs.options import RunOptions
from uas_plugin.evaluation.runs.store import ResponseIndex
from uas_plugin.evaluation.runs.totals import Ratio, Ratios
from uas_plugin.metrics.wer import WordErrors
from uas_plugin.progress import progress

SCORES, ITEMS = "scores.json", "items.jsonl"
FORMAT = 1
#: Ratios of a column: heading of the figure's id, and how it is made of a score.
_RATES = {"": "corpus", "_mean": "mean of utterances"}


class Scoring:
    """Scores items one by one, keeping counts only.

    Args:
        benchmark: whose items. options: protocol and seeds. index: the responses.
    """

    def __init__(self, benchmark: Benchmark, options: RunOptions, index: ResponseIndex) -> None:
        self.benchmark, self.options, self.index = benchmark, options, index
        self.columns = {(axis, value): heading for heading, axis, value in benchmark.columns}
        self._names = {
            (axis, value): {part: f"{axis}.{value}{part}" for part in self._parts()}
            for axis, value in self.columns
        }
        names = [name for parts in self._names.values() for name in parts.values()]
        self._ratios = Ratios(names, len(options.seeds), options.resampling_seed)
        self._chance: dict[tuple[str, str], float] = defaultdict(float)
        self.counts: Counter[str] = Counter()
        self.groups: dict[str, dict[str, Counter[str]]] = {}
        self.missing: list[str] = []

    def _parts(self) -> tuple[str, ...]:
        return ("", ".unparsed") if self.benchmark.metric == "accuracy" else tuple(_RATES)

    def rows(self, items: Iterator[Item]) -> Iterator[dict[str, Any]]:
        """Lines of ``items.jsonl``: a line an item and seed."""
        for item in items:
            found = self.index.take(item.id, self.benchmark.name)
            if any(seed not in found for seed in self.options.seeds):
                self._miss(item)
                continue
            scores = []
            for seed in self.options.seeds:
                score = self.benchmark.score_item(
                    item.entry,
                    found[seed]["response"],
                    protocol=self.options.protocol,
                    thinking=self.options.thinking,
                )
                scores.append(score)
                yield self._row(item, seed, found[seed], score)
            self._add(item, scores)

    def _miss(self, item: Item) -> None:
        self.counts["missing"] += 1
        if len(self.missing) < NAMED:
            self.missing.append(item.id)

    def _row(
        self, item: Item, seed: int, found: Mapping[str, Any], score: ItemScore
    ) -> dict[str, Any]:
        self.counts["responses"] += 1
        self.counts["empty"] += not found["response"].strip()
        self.counts["unparsed"] += not score.parsed
        row = {
            "id": item.id,
            "seed": seed,
            "groups": dict(item.groups),
            "response": found["response"],
            "answer": score.answer,
            "parsed": score.parsed,
            "correct": score.correct,
            "reference": self.benchmark.reference(item),
            "audio": found.get("audio") or (str(item.audio) if item.audio else None),
        }
        choices = self.benchmark.choices(item.entry)
        if choices:
            row |= {"choices": list(choices), "choice": score.choice}
            row["question"] = str(item.entry.get("question", ""))
        if score.words is not None:
            row["words"] = _counts(score.words) | {"wer": score.words.wer}
        return row

    def _add(self, item: Item, scores: list[ItemScore]) -> None:
        self.counts["items"] += 1
        keys = [("all", "all"), *item.groups.items()]
        for axis, value in keys:
            counts = self.groups.setdefault(axis, {}).setdefault(value, Counter())
            counts["items"] += 1
            for score in scores:
                counts["right"] += score.correct
                counts["unparsed"] += not score.parsed
                if score.words is not None:
                    counts.update(_counts(score.words))
        shown = [key for key in keys if key in self.columns]
        chance = self.benchmark.chance(item.entry)
        if chance is not None:
            for key in shown:
                self._chance[key] += chance
        values = {part: self._value(part, scores) for part in self._parts()}
        self._ratios.add(
            {name: values[part] for key in shown for part, name in self._names[key].items()}
        )

    def _value(self, part: str, scores: list[ItemScore]) -> tuple[list[float], list[float]]:
        ones = [1.0] * len(scores)
        if self.benchmark.metric == "accuracy":
            if part == "":
                return [float(score.correct) for score in scores], ones
            return [float(not score.parsed) for score in scores], ones
        words = [score.words for score in scores if score.words is not None]
        if part == "_mean":
            return [w.wer for w in words], ones
        return [float(w.errors) for w in words], [float(w.reference_length) for w in words]

    def figures(self) -> list[Figure]:
        """The columns of the papers' table: accuracy, or both error rates."""
        found = self._ratios.results()
        figures = []
        for (axis, value), heading in self.columns.items():
            for part in self._parts():
                ratio = found.get(f"{axis}.{value}{part}")
                if ratio is None or part == ".unparsed":
                    continue
                name = "all" if axis == "all" else value
                if self.benchmark.metric == "accuracy":
                    unparsed = found[f"{axis}.{value}.unparsed"]
                    detail = {"unparsed": unparsed.value, "right": ratio.top}
                    chance = {"chance": self._chance[axis, value] / ratio.items}
                    figures.append(self._figure(name, heading, ratio, detail, chance))
                else:
                    label = f"{self.benchmark.metric.upper()}, {_RATES[part]}"
                    counts = self.groups[axis][value]
                    detail = {key: counts[key] for key in _COUNTS} if part == "" else {}
                    figures.append(
                        self._figure(f"{self.benchmark.metric}{part}", label, ratio, detail, {})
                    )
        return figures

    def _figure(
        self,
        name: str,
        label: str,
        ratio: Ratio,
        detail: dict[str, Any],
        baselines: dict[str, float],
    ) -> Figure:
        by_seed = {"by_seed": list(ratio.by_seed), "spread": ratio.spread}
        return Figure(
            id=f"{self.benchmark.name}.{name}",
            label=label,
            value=ratio.value,
            n=ratio.items,
            better="higher" if self.benchmark.metric == "accuracy" else "lower",
            interval=ratio.interval,
            baselines=baselines,
            detail=detail | by_seed,
        )


_COUNTS = ("substitutions", "insertions", "deletions", "hits")


def _counts(words: WordErrors) -> dict[str, int]:
    return {name: getattr(words, name) for name in _COUNTS}


def score_run(
    benchmark: Benchmark,
    data: Path,
    responses: Path,
    output: Path,
    options: RunOptions,
    record: Mapping[str, Any],
) -> dict[str, Any]:
    """Score all responses; writes ``items.jsonl`` and, last, ``scores.json``, which is returned.

    Args:
        responses: a file of lines, or a folder of such files.
        record: as ``run.json``; it stands in the scores too.

    Raises:
        UASError: bad benchmark files or responses; items without a response, unless
            ``options.allow_missing``; nothing to score.
    """
    with ResponseIndex(responses) as index:
        strange = sorted(set(index.seeds()) - set(options.seeds))
        if strange:
            raise UASError(
                f"{responses} has answers of seeds {strange}, which --seeds does not name"
            )
        scoring = Scoring(benchmark, options, index)
        items = progress(benchmark.items(data), desc=f"score {benchmark.name}")
        write_jsonl(output / ITEMS, _checked(scoring, items))
    scores = _document(scoring, record)
    write_json(output / SCORES, scores)
    return scores


def _checked(scoring: Scoring, items: Iterator[Item]) -> Iterator[dict[str, Any]]:
    """The rows; whatever is wrong with the whole is an error at their end, and no file is left."""
    yield from scoring.rows(items)
    name, scored = scoring.benchmark.title, scoring.counts["items"]
    scoring.index.close_books(name)
    if not scored:
        raise UASError(f"no item of {name} has a response")
    if missing := scoring.counts["missing"]:
        text = (
            f"{missing} of {missing + scored} items of {name} have no response to each of the "
            f"seeds {list(scoring.options.seeds)}: {', '.join(scoring.missing)}"
            + (", ..." if missing > len(scoring.missing) else "")
        )
        if not scoring.options.allow_missing:
            raise UASError(f"{text}; --allow_missing scores the others")
        logging.warning(text)
    if empty := scoring.counts["empty"]:
        logging.warning("%d of %d responses are empty", empty, scoring.counts["responses"])


def _document(scoring: Scoring, record: Mapping[str, Any]) -> dict[str, Any]:
    benchmark = scoring.benchmark
    return {
        "format": FORMAT,
        "kind": "benchmark",
        "benchmark": benchmark.name,
        "title": benchmark.title,
        "metric": benchmark.metric,
        "run": record,
        "items": scoring.counts["items"],
        "missing": {"items": scoring.counts["missing"], "first": scoring.missing},
        "responses": scoring.counts["responses"],
        "unparsed": scoring.counts["unparsed"],
        "empty": scoring.counts["empty"],
        "figures": [figure.to_json() for figure in scoring.figures()],
        "groups": {
            axis: {value: dict(counts) for value, counts in sorted(values.items())}
            for axis, values in scoring.groups.items()
        },
    }
