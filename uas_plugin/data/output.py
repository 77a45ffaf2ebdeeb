"""What the data stage writes: cuts, Kaldi files, rejected clips, and the counts, last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from uas_plugin.atomic import write_json, write_jsonl
from uas_plugin.data.kaldi import write_kaldi
from uas_plugin.data.manifests import SPLITS, custom_of, save_cuts
from uas_plugin.data.spill import SortedCuts

REJECTED_NAME = "rejected.jsonl"
INFO_NAME = "info.json"


def make_cut(
    *,
    id: str,
    path: Path,
    sampling_rate: int,
    num_samples: int,
    text: str | None,
    language: str | None,
    speaker: str | None,
    custom: dict[str, Any],
) -> Any:
    """A Lhotse MonoCut over a whole audio file (absolute path), with one supervision.

    Args:
        id: of the cut, its recording and its supervision.
        path: the file.
        sampling_rate: Hz.
        num_samples: length of the file.
        text: transcription; None becomes "".
        language: "en", "zh", ... or None.
        speaker: name or None.
        custom: the supervision's fields ``uas``, ``kind``, ``labels`` and others.
    """
    from lhotse import AudioSource, MonoCut, Recording, SupervisionSegment

    recording = Recording(
        id=id,
        sources=[AudioSource(type="file", channels=[0], source=str(path.absolute()))],
        sampling_rate=sampling_rate,
        num_samples=num_samples,
        duration=num_samples / sampling_rate,
    )
    vocal = custom["uas"]["paralinguistics"] or {}
    supervision = SupervisionSegment(
        id=id,
        recording_id=id,
        start=0.0,
        duration=recording.duration,
        text=text or "",
        language=language,
        speaker=speaker,
        gender=vocal.get("gender"),
        custom=custom,
    )
    return MonoCut(
        id=id,
        start=0.0,
        duration=recording.duration,
        channel=0,
        recording=recording,
        supervisions=[supervision],
    )


def write_rejected(folder: Path, rejected: Mapping[str, Iterable[dict[str, Any]]]) -> None:
    """Write ``<split>/rejected.jsonl``, empty where nothing was rejected."""
    for split in SPLITS:
        write_jsonl(folder / split / REJECTED_NAME, rejected.get(split, ()))


def write_corpus(
    folder: Path,
    cuts: Mapping[str, SortedCuts],
    rejected: Mapping[str, Collection[dict[str, Any]]],
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Write all files of a corpus; ``info.json`` last, as the mark that all is there.

    Args:
        folder: output folder D.
        cuts: per split.
        rejected: per split, rows with id, path, category, reason, mend.
        facts: further entries of info.json (corpus, seed, options).
    Returns:
        What info.json holds.
    """
    (folder / INFO_NAME).unlink(missing_ok=True)
    write_rejected(folder, rejected)
    splits = {}
    for split in SPLITS:
        write_kaldi(cuts[split], folder / split)
        save_cuts(cuts[split], folder / split / "cuts.jsonl.gz")
        splits[split] = count(cuts[split], rejected.get(split, ()))
    info = {
        **facts,
        "clips": sum(part["clips"] for part in splits.values()),
        "hours": round(sum(part["hours"] for part in splits.values()), 4),
        "rejected": sum(part["rejected"] for part in splits.values()),
        "splits": splits,
    }
    write_json(folder / INFO_NAME, info)
    return info


def count(cuts: Iterable[Any], rejected: Collection[dict[str, Any]]) -> dict[str, Any]:
    """Clips, hours, speakers, and how often each kind, language and label occurs in a split."""
    labels: dict[str, Counter[str]] = {}
    kinds: Counter[str] = Counter()
    languages: Counter[str] = Counter()
    clips, seconds, speakers = 0, 0.0, set()
    for cut in cuts:
        custom = custom_of(cut)
        clips, seconds = clips + 1, seconds + cut.duration
        speakers.add(cut.supervisions[0].speaker)
        kinds[custom["kind"]] += 1
        if cut.supervisions[0].language:
            languages[cut.supervisions[0].language] += 1
        for name, value in custom["labels"].items():
            if isinstance(value, str):
                labels.setdefault(name, Counter())[value] += 1
    return {
        "clips": clips,
        "hours": round(seconds / 3600, 4),
        "rejected": len(rejected),
        "rejected_for": dict(sorted(Counter(row["category"] for row in rejected).items())),
        "speakers": len(speakers - {None}),
        "kinds": dict(sorted(kinds.items())),
        "languages": dict(sorted(languages.items())),
        "labels": {name: dict(sorted(values.items())) for name, values in sorted(labels.items())},
    }
