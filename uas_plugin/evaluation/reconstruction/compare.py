"""Measure every row of a comparison and make its report."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from uas_plugin.errors import UASError, left_out_text, suggest
from uas_plugin.evaluation.figures import Figure
from uas_plugin.evaluation.judges import make_judge, signals
from uas_plugin.evaluation.judges.measure import Item, Measure
from uas_plugin.evaluation.reconstruction import rows
from uas_plugin.evaluation.reconstruction.cache import Runner
from uas_plugin.evaluation.reconstruction.clips import SHUFFLED, TRUTH, Reference, Row

METRICS = ("wer", "mos", "sim", "mel", "stft", "f0", "pesq", "stoi")
#: Only where they are asked for, by name or by their judge: a flow's audio has not the phase of the
#: recording, so that ratios of waveforms say nothing of it; the others need a judge to be given.
ON_REQUEST = ("snr", "si_sdr", "fad", "clap", "versa")
#: Metrics of speech: only clips with a transcript have them.
SPEECH = ("wer", "mos", "sim", "f0", "pesq", "stoi")


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What is measured, and by whom.

    Attributes:
        metrics: names of :data:`METRICS`; empty for all whose packages are installed.
        recognizers: judges of ``wer``, NAME or NAME=FOLDER; the first that takes a clip's language
            hears it.
        mos, speaker: the judges of ``mos`` and ``sim``.
        embedding: of ``fad``, and of ``clap`` where it is one of CLAP.
        versa: one of VERSA's score configurations, for ``versa``.
        seed: of the intervals and of the shuffled row.
        resamples: draws behind a 95 % interval.
    """

    metrics: tuple[str, ...] = ()
    recognizers: tuple[str, ...] = ("pocketsphinx",)
    mos: str = "dnsmos"
    speaker: str = "resemblyzer"
    embedding: str = "mel"
    versa: str = ""
    seed: int = 0
    resamples: int = 1000

    def wanted(self) -> tuple[str, ...]:
        """The metrics to measure, if they can be."""
        if self.metrics:
            return self.metrics
        clap = ("fad", "clap") if self.embedding.startswith("clap") else ()
        return (*METRICS, *clap, *(("versa",) if self.versa else ()))


@dataclass
class Measurements:
    """Judges by metric, and why other metrics cannot be measured."""

    judges: dict[str, list[Measure]]
    missing: dict[str, str] = field(default_factory=dict)


def judges(choices: Choices, device: str = "cpu") -> Measurements:
    """The measures that ``choices`` name.

    Raises:
        UASError: an unknown metric or judge, or a package is missing of what was asked for by name
            (a metric that was not asked for is noted instead).
    """
    every = (*METRICS, *ON_REQUEST)
    for name in choices.metrics:
        if name not in every:
            known = ", ".join(every)
            raise UASError(f"unknown metric '{name}'.{suggest(name, every)} Known: {known}")
    if "clap" in choices.metrics and not choices.embedding.startswith("clap"):
        raise UASError("metric 'clap' needs its model: --embedding clap=FOLDER")
    found = Measurements({})
    for name in every:
        if name not in choices.wanted():
            continue
        measures = _measures(name, choices, device)
        try:
            for measure in measures:
                measure.check()
        except UASError as error:
            if name in choices.metrics or _asked(choices, name):
                raise
            found.missing[name] = str(error)
            continue
        found.judges[name] = measures
    return found


def _asked(choices: Choices, name: str) -> bool:
    """Whether the judge of a metric was chosen, and not left at its default."""
    field_of = {
        "wer": "recognizers", "mos": "mos", "sim": "speaker", "fad": "embedding",
        "clap": "embedding", "versa": "versa",
    }.get(name)  # fmt: skip
    return field_of is not None and getattr(choices, field_of) != getattr(Choices(), field_of)


def _measures(name: str, choices: Choices, device: str) -> list[Measure]:
    if name == "wer":
        return [make_judge("asr", spec, device) for spec in choices.recognizers]
    if name == "f0":
        return [signals.F0Track()]
    if name == "versa":
        return [make_judge("versa", f"versa={choices.versa}", device)]
    judged = {
        "mos": ("mos", choices.mos),
        "sim": ("speaker", choices.speaker),
        "fad": ("embedding", choices.embedding),
        "clap": ("embedding", choices.embedding),
    }
    if name in judged:
        return [make_judge(*judged[name], device)]
    return [signals.PAIRS[name]()]


def compare(
    references: Sequence[Reference],
    table: Sequence[Row],
    left_out: Mapping[str, str],
    found: Measurements,
    choices: Choices,
    runner: Runner,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The report, and one row of values for each clip of each row.

    Args:
        references: all recordings.
        table: rows, the recordings' first; all have the same clips but the shuffled one.
        left_out: clip id -> why it is not measured.
        found: judges, as from :func:`judges`.
        choices: seeds.
        runner: measures.

    Raises:
        UASError: no clip is left.
    """
    kept = [one for one in references if one.id not in left_out]
    skipped = [
        {"id": k, "reason": left_out[k]} for k in (r.id for r in references) if k in left_out
    ]
    if not kept:
        raise UASError(f"none of the {len(references)} cuts can be used; {skipped[0]['reason']}")
    if skipped:
        logging.warning("%s", left_out_text(skipped, len(references)))
    work = _Work(kept, table, runner, choices)
    for metric, measures in found.judges.items():
        work.measure(metric, measures)
        for measure in measures:  # one model in memory at a time
            measure.__dict__.pop("model", None)
    report = {
        "rows": [
            {
                "name": row.name,
                "system": row.system,
                "facts": row.facts,
                "figures": {one.id: one.to_json() for one in work.figures[row.name]},
            }
            for row in table
        ],
        "judges": work.settings,
        "not_measured": found.missing,
        "choices": asdict(choices),
        "clips": {
            "given": len(references),
            "scored": len(kept),
            "speech": sum(bool(one.text) for one in kept),
            "speech_without_judge": sorted(work.unheard),
        },
        "left_out": skipped,
    }
    return report, [dict(value) for value in work.values()]


class _Work:
    """Measurements so far."""

    def __init__(
        self,
        kept: Sequence[Reference],
        table: Sequence[Row],
        runner: Runner,
        choices: Choices,
    ) -> None:
        self.kept, self.table, self.runner = kept, table, runner
        self.speech = [one for one in kept if one.text]
        self.truth = next(row for row in table if row.name == TRUTH)
        self.bootstrap: dict[str, Any] = {"resamples": choices.resamples, "seed": choices.seed}
        self.figures: dict[str, list[Figure]] = {row.name: [] for row in table}
        self.clips: dict[tuple[str, str], dict[str, Any]] = {}
        self.settings: dict[str, list[dict[str, Any]]] = {}
        self.unheard: set[str] = set()

    def measure(self, metric: str, measures: Sequence[Measure]) -> None:
        """Measure all rows by one metric."""
        if metric in SPEECH and not self.speech:
            return
        self.settings[metric] = [one.settings() for one in measures]
        if metric == "wer":
            self._words(measures)
            return
        steps = {
            "mos": self._mos, "sim": self._similarity, "f0": self._pitch, "fad": self._frechet,
            "clap": self._clap, "versa": self._versa,
        }  # fmt: skip
        steps.get(metric, self._pairs)(measures[0])

    def values(self) -> list[dict[str, Any]]:
        """What was measured of each clip, row by row."""
        return [
            {"row": row.name, "id": one.id, **self.clips[row.name, one.id]}
            for row in self.table
            for one in self.kept
            if (row.name, one.id) in self.clips
        ]

    def _keep(self, row: Row, name: str, **values: Any) -> None:
        self.clips.setdefault((row.name, name), {}).update(values)

    def _of(self, row: Row, clips: Sequence[Reference]) -> list[Reference]:
        return [one for one in clips if one.id in row.sounds]

    def _single(
        self, measure: Measure, row: Row, clips: Sequence[Reference], spoken: bool = False
    ) -> dict[str, Any]:
        """Clip id -> what the measure says of the row's audio."""
        clips = self._of(row, clips)
        items = [Item(row.sounds[c.id], language=c.language if spoken else "") for c in clips]
        values = self.runner.run(measure, items, row.name)
        return {one.id: value for one, value in zip(clips, values, strict=True)}

    def _words(self, measures: Sequence[Any]) -> None:
        remaining = list(self.speech)
        for judge in measures:
            own = [one for one in remaining if one.language and judge.takes(one.language)]
            heard = {one.id for one in own}
            remaining = [one for one in remaining if one.id not in heard]
            if not own:
                continue
            for row in self.table:
                texts = self._single(judge, row, own, spoken=True)
                figures, errors = rows.word_figures(texts, own, judge.title, **self.bootstrap)
                self.figures[row.name] += figures
                for name, found in errors.items():
                    counts = {"errors": found.errors, "words": found.reference_length}
                    self._keep(row, name, heard=texts[name], **counts)
        self.unheard = {one.id for one in remaining}

    def _mos(self, judge: Measure) -> None:
        for row in self.table:
            if row.name == SHUFFLED:  # the recordings' own values in another order
                continue
            found = self._single(judge, row, self.speech)
            kinds = list(next(iter(found.values()))) if found else []
            means = {k: sum(x[k] for x in found.values()) / len(found) for k in kinds}
            values = {name: x["ovrl"] for name, x in found.items()}
            self._add(row, rows.mean_of("mos", values, judge.name, **self.bootstrap, detail=means))
            for name, x in found.items():
                self._keep(row, name, mos=x)

    def _similarity(self, judge: Measure) -> None:
        wanted = self._single(judge, self.truth, self.speech)
        for row in self.table:
            values = rows.similarity(self._single(judge, row, self.speech), wanted)
            self._add(row, rows.mean_of("sim", values, judge.title, **self.bootstrap))
            for name, value in values.items():
                self._keep(row, name, sim=value)

    def _frechet(self, judge: Measure) -> None:
        wanted = self._single(judge, self.truth, self.kept)
        for row in self.table:
            if row.name != SHUFFLED:  # the same set in another order
                found = self._single(judge, row, self.kept)
                self._add(row, rows.frechet_figure(found, wanted, judge.title))

    def _clap(self, judge: Measure) -> None:
        wanted = rows.mean_vectors(self._single(judge, self.truth, self.kept))
        for row in self.table:
            found = rows.mean_vectors(self._single(judge, row, self.kept))
            values = rows.similarity(found, wanted)
            self._add(row, rows.mean_of("clap", values, judge.title, **self.bootstrap))
            for name, value in values.items():
                self._keep(row, name, clap=value)

    def _versa(self, judge: Measure) -> None:
        for row in self.table:
            own = self._of(row, self.kept)
            items = [Item(row.sounds[c.id], self.truth.sounds[c.id]) for c in own]
            found = self.runner.run(judge, items, row.name)
            values = {one.id: value for one, value in zip(own, found, strict=True)}
            self.figures[row.name] += rows.versa_figures(values, **self.bootstrap)
            for name, value in values.items():
                self._keep(row, name, versa=value)

    def _pitch(self, judge: Measure) -> None:
        wanted = self._single(judge, self.truth, self.speech)
        for row in self.table:
            errors = rows.pitch_of(self._single(judge, row, self.speech), wanted)
            self.figures[row.name] += rows.pitch_figures(errors, **self.bootstrap)
            for name, found in errors.items():
                self._keep(row, name, f0=found.rmse_hz, voicing=found.voicing_error)

    def _pairs(self, judge: Measure) -> None:
        clips = self.speech if judge.name in SPEECH else self.kept
        for row in self.table:
            own = self._of(row, clips)
            items = [
                Item(row.sounds[c.id], self.truth.sounds[c.id], fit=row.name == SHUFFLED)
                for c in own
            ]
            found = self.runner.run(judge, items, row.name)
            values = {one.id: value for one, value in zip(own, found, strict=True)}
            self._add(row, rows.mean_of(judge.name, values, **self.bootstrap))
            for name, value in values.items():
                self._keep(row, name, **{judge.name: value})

    def _add(self, row: Row, figure: Figure | None) -> None:
        if figure is not None:
            self.figures[row.name].append(figure)
