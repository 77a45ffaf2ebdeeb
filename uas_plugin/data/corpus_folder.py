"""A corpus of recordings in a folder: audio files and ``metadata.jsonl`` (see data.metadata).

Labels become schema annotations: years to age classes, the raw emotion to one of seven, underscores
in labels to spaces. What is not given is null. Audio at 16 kHz with one channel is used where it
lies; anything else is averaged over channels and converted by soxr into ``D/audio`` once.
"""

from __future__ import annotations

import itertools
import json
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uas_plugin.data.audio import SAMPLING_RATE, load_audio
from uas_plugin.data.check import LEFT_OUT_BY_LIMIT, AudioFacts, Fault, Limits, check_files
from uas_plugin.data.manifests import SPLITS
from uas_plugin.data.metadata import Entry, Metadata, read_metadata
from uas_plugin.data.spill import SortedCuts, Spill
from uas_plugin.errors import UASError

# Labels of sounds that go on; any other label is an event with an onset and an end.
CONTINUOUS = frozenset(
    (
        *("rain", "wind", "sea waves", "waves", "water", "pouring water", "stream", "waterfall"),
        *("fire crackling", "crackling fire", "chainsaw", "helicopter", "engine", "airplane"),
        *("train", "traffic", "fan", "air conditioner", "vacuum cleaner", "washing machine"),
        *("crowd", "crickets", "insects", "hum", "noise", "vinyl"),
    )
)
CHILD_BELOW, ELDERLY_FROM = 16, 60  # years
_VOICED = ("speech", "digits", "emotion")
# Not faults of a file, and not counted against max_rejected_share.
_BY_CHOICE = (*LEFT_OUT_BY_LIMIT, "no_transcript", "no_label")


@dataclass(frozen=True, kw_only=True)
class FolderConfig:
    """Options of a folder corpus.

    Attributes:
        corpus_dir: the folder.
        min_duration, max_duration: seconds; clips outside are left out, named and counted.
        min_rms: below this share of full scale a clip is silent.
        max_rejected_share: faulty files above this share of a split stop the run.
        lowercase_all_caps: write transcripts that are all upper case in lower case.
        num_workers: threads that decode.
    """

    corpus_dir: str | None = None
    min_duration: float = 0.1
    max_duration: float = 12.0
    min_rms: float = 1e-4
    max_rejected_share: float = 0.05
    lowercase_all_caps: bool = True
    num_workers: int = 2

    def __post_init__(self) -> None:
        if not 0 <= self.max_rejected_share <= 1:
            raise UASError("data.max_rejected_share must be between 0 and 1")
        if not 0 <= self.min_duration < self.max_duration:
            raise UASError("data.min_duration must be at least 0 and below data.max_duration")


def prepare_folder(config: FolderConfig, output_dir: Path) -> dict[str, Any]:
    """Check every recording, turn labels into annotations, and write the manifests.

    Returns:
        What ``info.json`` holds.
    Raises:
        UASError: as :func:`uas_plugin.data.metadata.read_metadata`; or too many faulty files (their
            names are then in ``<split>/rejected.jsonl``).
    """
    from uas_plugin.data.output import write_corpus, write_rejected

    if not config.corpus_dir:
        raise UASError("this corpus needs a folder of recordings: give --corpus_dir DIR")
    folder = Path(config.corpus_dir).absolute()
    entries, copies = read_metadata(folder)
    cuts = {split: SortedCuts() for split in SPLITS}
    rejected = {split: Rejections() for split in SPLITS}
    unknown: Counter[str] = Counter()
    for entry, facts in _checked_audio(entries, config):
        fault = facts if isinstance(facts, Fault) else _missing_truth(entry)
        if fault is not None:
            rejected[entry.split].add(entry, fault)
        elif isinstance(facts, AudioFacts):
            cuts[entry.split].add(_cut(entry, facts, config, output_dir, unknown))
    for emotion, times in unknown.items():
        logging.warning("emotion '%s' (%d clips) is none that is known: null", emotion, times)
    write_rejected(output_dir, rejected)
    for split in SPLITS:
        where = output_dir / split / "rejected.jsonl"
        rejected[split].check_share(len(cuts[split]), split, config.max_rejected_share, where)
    info = write_corpus(
        output_dir,
        cuts,
        rejected,
        {"corpus": folder.name, "corpus_dir": str(folder), "copies_at_another_rate": copies},
    )
    logging.info(
        "%s: %d clips, %.1f min, %d left out or rejected",
        *(folder.name, info["clips"], info["hours"] * 60, info["rejected"]),
    )
    return info


def _checked_audio(
    entries: Metadata, config: FolderConfig
) -> Iterator[tuple[Entry, AudioFacts | Fault]]:
    from uas_plugin.progress import progress

    limits = Limits(
        min_duration=config.min_duration,
        max_duration=config.max_duration,
        min_rms=config.min_rms,
    )
    read_ahead, asked = itertools.tee(entries)
    jobs = ((entry.path, entry.row.get("duration_s")) for entry in read_ahead)
    results = check_files(jobs, limits, config.num_workers)
    return zip(asked, progress(results, len(entries), "checking audio"), strict=True)


def _missing_truth(entry: Entry) -> Fault | None:
    """A clip whose schema would say something untrue, such as that nobody speaks."""
    kind, row = entry.row["kind"], entry.row
    if kind in _VOICED:
        if (row.get("transcript") or "").strip():
            return None
        reason = "speech without a transcript (a null transcription would mean no speech)"
        return Fault("no_transcript", reason, "transcribe it")
    if (row.get(f"{kind}_label") or "").strip():
        return None
    return Fault("no_label", f"{kind} without {kind}_label", "label it")


class Rejections:
    """The clips of a split that are left out, in the order of the metadata."""

    def __init__(self) -> None:
        self._rows, self.faulty = Spill(), 0
        self.first: str | None = None

    def add(self, entry: Entry, fault: Fault) -> None:
        """Leave ``entry`` out."""
        row = {
            "id": entry.id,
            "path": str(entry.path),
            "category": fault.category,
            "reason": fault.reason,
            "mend": fault.mend,
        }
        if fault.category not in _BY_CHOICE:
            logging.warning("cut %s: left out as %s: %s", entry.id, fault.category, fault.reason)
            self.faulty += 1
            self.first = self.first or f"{entry.id}: {fault.reason}"
        self._rows.add(f"{len(self._rows):012d}", json.dumps(row, ensure_ascii=False))

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, row: object) -> bool:
        return any(row == own for own in self)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (json.loads(value) for _, value in self._rows)

    def check_share(self, usable: int, split: str, most: float, where: Path) -> None:
        """Raise UASError if too many recordings are faulty, or none is left."""
        total = usable + self.faulty
        if self.faulty > most * total:
            raise UASError(
                f"{self.faulty} of {total} recordings of {split} are faulty, above "
                f"data.max_rejected_share {most:g}; the first: {self.first}. All are named in "
                f"{where}"
            )
        if not usable:
            raise UASError(f"no usable recording is left in {split}; see {where}")


def _cut(
    entry: Entry, facts: AudioFacts, config: FolderConfig, output_dir: Path, unknown: Counter[str]
) -> Any:
    from uas_plugin.data.output import make_cut
    from uas_plugin.schema import SchemaError
    from uas_plugin.schema.text import validate

    row = entry.row
    try:
        uas = validate(annotate(row, config.lowercase_all_caps)).to_dict()
    except SchemaError as error:
        raise UASError(f"{entry.where}: {error}") from None
    vocal: dict[str, Any] = uas["paralinguistics"] or {}  # type: ignore[assignment]
    if row.get("emotion") and vocal.get("emotion") is None and row["kind"] in _VOICED:
        unknown[row["emotion"]] += 1
    labels = {key: vocal.get(key) for key in ("gender", "age", "emotion")}
    if row["kind"] in ("sound", "music"):
        labels[row["kind"]] = _plain(row[f"{row['kind']}_label"])
    raw = ("emotion", "age", "transcript", "dataset", "licence", "source")
    custom = {
        "uas": uas,
        "kind": row["kind"],
        "labels": {key: value for key, value in labels.items() if value is not None},
        # Sets of spoken digits are small and often of one gender; their score would say nothing.
        "unscored": ["gender"] if row["kind"] == "digits" else [],
        "raw": {key: row[key] for key in raw if row.get(key) is not None},
    }
    if row.get("caption"):
        custom["caption"] = row["caption"]
    path, num_samples = _converted(entry, facts, output_dir)
    return make_cut(
        id=entry.id,
        path=path,
        sampling_rate=SAMPLING_RATE,
        num_samples=num_samples,
        text=uas["transcription"],  # type: ignore[arg-type]
        language=row.get("language"),
        speaker=row.get("speaker"),
        custom=custom,
    )


def _converted(entry: Entry, facts: AudioFacts, output_dir: Path) -> tuple[Path, int]:
    """The file itself, or a 16 kHz mono FLAC made from it (kept from an earlier run)."""
    import soundfile

    from uas_plugin.atomic import atomic_path

    if facts.sampling_rate == SAMPLING_RATE and facts.channels == 1:
        return facts.path, facts.num_samples
    target = output_dir / "audio" / entry.split / f"{entry.id}.flac"
    newer = target.is_file() and target.stat().st_mtime_ns > facts.path.stat().st_mtime_ns
    if not newer:
        samples = load_audio(facts.path)
        peak = float(abs(samples).max())
        if peak > 1.0:  # resampling may overshoot full scale
            samples = samples / peak
        with atomic_path(target) as temporary:
            soundfile.write(temporary, samples, SAMPLING_RATE, subtype="PCM_16", format="FLAC")
    return target, soundfile.info(target).frames


def annotate(row: dict[str, Any], lowercase_all_caps: bool = True) -> dict[str, Any]:
    """The schema JSON of a line of metadata; what it does not give is null.

    >>> row = {"kind": "sound", "sound_label": "sea_waves"}
    >>> annotate(row)["nonLinguisticEvents"]["continuousEvents"]
    [{'label': 'sea waves', 'characteristic': None}]
    """
    from uas_plugin.schema import canonical_emotion

    transcription = vocal = None
    discrete: list[dict[str, Any]] = []
    continuous: list[dict[str, Any]] = []
    if row["kind"] in _VOICED:
        transcription = row["transcript"].strip()
        if lowercase_all_caps and transcription.isupper():
            transcription = transcription.lower()
        vocal = {
            "age": age_class(row.get("age")),
            "gender": row["gender"].capitalize() if row.get("gender") else None,
            "emotion": canonical_emotion(row["emotion"]) if row.get("emotion") else None,
            "accent": (row.get("accent") or "").strip() or None,
            "prosody": None,
            "timbre": None,
        }
    else:
        label = _plain(row[f"{row['kind']}_label"])
        goes_on = row["kind"] == "music" or label in CONTINUOUS
        (continuous if goes_on else discrete).append({"label": label, "characteristic": None})
    return {
        "transcription": transcription,
        "paralinguistics": vocal,
        "nonLinguisticEvents": {
            "description": None,
            "discreteEvents": discrete,
            "continuousEvents": continuous,
        },
    }


def age_class(years: float | None) -> str | None:
    """Child below 16 years, Elderly from 60, Adult between; None stays None."""
    if years is None:
        return None
    if years < CHILD_BELOW:
        return "Child"
    return "Elderly" if years >= ELDERLY_FROM else "Adult"


def _plain(label: str) -> str:
    return " ".join(label.replace("_", " ").split())
