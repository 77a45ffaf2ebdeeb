"""Clips with the ids of both branches, in one folder of a set.

Beside a clip of speech stand the ids of two variants: ``noisy``, with a sound of the same set
added, and ``other_voice``, the same words resampled to another pitch and speed. Files:
``clips.jsonl`` (a row a clip), ``reasoning.npy`` (N, 8) and ``reconstruction.npy`` (T, 8) int32 of
all ids one after the other, and ``info.json``, which is written last.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uas_plugin.atomic import atomic_path, read_jsonl, write_json, write_jsonl
from uas_plugin.audiollm.uniaudio2.prepare import Clip
from uas_plugin.codec.reasoning.branches import BranchIds
from uas_plugin.codec.reasoning.config import SAMPLING_RATE
from uas_plugin.data.audio import first_channel
from uas_plugin.data.sampling import seeded
from uas_plugin.data.targets import class_caption
from uas_plugin.errors import UASError

VARIANTS = ("noisy", "other_voice")
BRANCHES = ("reasoning", "reconstruction")
FACTS = ("name", "kind", "language", "speaker", "text", "caption", "labels", "noise")


@dataclass(frozen=True)
class VariantOptions:
    """How variants are made.

    Args:
        snr_db: lowest and highest, of ``noisy``. speeds: factors of ``other_voice``; one is drawn.
            seed: of all that is drawn.
    """

    snr_db: tuple[float, float] = (0.0, 8.0)
    speeds: tuple[float, ...] = (0.85, 1.18)
    seed: int = 0


@dataclass
class StoredClip(Clip):
    """A clip with what recipes need beside its ids.

    Args:
        kind: of the corpus. language, speaker: of the speech. noise: name of the clip that was
            added.
    """

    kind: str = ""
    language: str = ""
    speaker: str = ""
    noise: str = ""
    noisy: BranchIds | None = None
    other_voice: BranchIds | None = None

    @property
    def speaks_alone(self) -> bool:
        """Whether it is speech with nothing behind it."""
        return bool(self.text) and not self.caption

    @classmethod
    def of(cls, cut: Any, ids: BranchIds) -> StoredClip:
        """As of `Clip`, without labels that the corpus keeps out of scores.

        A clip without words or a caption is captioned by its class.
        """
        clip = Clip.of(cut, ids)
        supervision = cut.supervisions[0] if cut.supervisions else None
        custom = (supervision.custom or {}) if supervision else {}
        hidden = set(custom.get("unscored") or ())
        clip.labels = {k: v for k, v in clip.labels.items() if k not in hidden}
        return cls(
            name=clip.name,
            ids=ids,
            text=clip.text,
            caption=clip.caption or class_caption(clip.text, clip.labels),
            labels=clip.labels,
            kind=str(custom.get("kind", "")),
            language=(supervision.language or "") if supervision else "",
            speaker=(supervision.speaker or "") if supervision else "",
        )


NOTHING = BranchIds(np.zeros((0, 8), np.int64), np.zeros((0, 8), np.int64))


class ClipMaker:
    """Encodes cuts with variants of those that are speech alone.

    Args:
        tokenizer: a `ReasoningTokenizer`. max_seconds: longer cuts are left out.
    """

    def __init__(
        self,
        tokenizer: Any,
        options: VariantOptions,
        variants: Sequence[str] = VARIANTS,
        *,
        max_seconds: float = 30.0,
        batch_size: int = 8,
    ) -> None:
        self.tokenizer, self.options, self.variants = tokenizer, options, tuple(variants)
        self.max_seconds, self.batch_size = max_seconds, batch_size
        self.rejected: list[str] = []

    def clips(self, cuts: Sequence[Any]) -> Iterator[StoredClip]:
        """The clips in their order; what cannot be used is named in ``rejected``."""
        known = [StoredClip.of(cut, NOTHING) for cut in cuts]
        noises = [(c, clip) for c, clip in zip(cuts, known) if clip.labels.get("sound")]
        noises = [pair for pair in noises if not pair[1].text]
        jobs: list[tuple[str, Any, StoredClip]] = []
        for cut, clip in zip(cuts, known):
            if cut.duration > self.max_seconds:
                self.rejected.append(f"{cut.id}: {cut.duration:.1f} s is too long")
                continue
            jobs.append(("ids", cut, clip))
            if clip.speaks_alone:
                jobs += self._variants(cut, clip, noises)
        audios = (
            (str(i), audio() if callable(audio) else audio) for i, (_, audio, _) in enumerate(jobs)
        )
        found = self.tokenizer.encode_stream(audios, self.batch_size)
        last: StoredClip | None = None
        for (part, _, clip), (_, ids) in zip(jobs, found, strict=True):
            if last is not None and clip is not last and len(last.ids.reasoning):
                yield last
            last = clip
            if isinstance(ids, UASError):
                self.rejected.append(str(ids))
            else:
                setattr(clip, part, ids)
        if last is not None and len(last.ids.reasoning):
            yield last

    def _variants(
        self, cut: Any, clip: StoredClip, noises: Sequence[tuple[Any, StoredClip]]
    ) -> Iterator[tuple[str, Any, StoredClip]]:
        """``(part, function that makes its audio, clip)``."""
        options = self.options
        rng = seeded("uniaudio2", options.seed, cut.id)
        noise, other = noises[int(rng.integers(len(noises)))] if noises else (None, None)
        snr = float(rng.uniform(*options.snr_db))
        speed = options.speeds[int(rng.integers(len(options.speeds)))]
        if other is not None and "noisy" in self.variants:
            clip.noise = other.name
            yield "noisy", lambda: (mix(_wave(cut), _wave(noise), snr), SAMPLING_RATE), clip
        if "other_voice" in self.variants:
            # A wrong rate shifts pitch and formants together, as a tape does.
            yield "other_voice", lambda: (_wave(cut), round(SAMPLING_RATE * speed)), clip


def _wave(cut: Any) -> np.ndarray:
    return first_channel(cut, SAMPLING_RATE, cut.id)


def mix(speech: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """``speech`` (S,) with ``noise`` repeated behind it, at ``snr_db`` of their mean powers."""
    behind = np.resize(noise, len(speech))
    power = float(np.mean(np.square(behind)))
    if not power:
        return speech
    wanted = float(np.mean(np.square(speech))) / 10 ** (snr_db / 10)
    return (speech + behind * np.sqrt(wanted / power)).astype(np.float32)


def write_clips(folder: str | os.PathLike[str], clips: Iterable[StoredClip]) -> dict[str, Any]:
    """Write a set; its ``info.json``. A set that was not finished is absent."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "info.json").unlink(missing_ok=True)
    rows: list[dict[str, Any]] = []
    arrays: dict[str, list[np.ndarray]] = {branch: [] for branch in BRANCHES}
    for clip in clips:
        row = {name: getattr(clip, name) for name in FACTS}
        for part in ("ids", *VARIANTS):
            ids = getattr(clip, part)
            if ids is not None:
                row[part] = [len(getattr(ids, branch)) for branch in BRANCHES]
                for branch in BRANCHES:
                    arrays[branch].append(getattr(ids, branch))
        rows.append(row)
    if not rows:
        raise UASError(f"{folder}: no clip could be encoded")
    for branch, parts in arrays.items():
        with atomic_path(folder / f"{branch}.npy") as temporary, open(temporary, "wb") as stream:
            np.save(stream, np.concatenate(parts).astype(np.int32), allow_pickle=False)
    write_jsonl(folder / "clips.jsonl", rows)
    info = {"clips": len(rows)} | {part: sum(part in row for row in rows) for part in VARIANTS}
    write_json(folder / "info.json", info)
    return info


def read_clips(folder: str | os.PathLike[str]) -> list[StoredClip]:
    """What `write_clips` wrote.

    Raises:
        UASError: the set is missing or damaged.
    """
    folder = Path(folder)
    try:
        json.loads((folder / "info.json").read_text(encoding="utf-8"))
        arrays = {b: np.load(folder / f"{b}.npy", allow_pickle=False) for b in BRANCHES}
        rows = list(read_jsonl(folder / "clips.jsonl"))
    except (OSError, ValueError) as error:
        raise UASError(f"{folder} holds no clips: stage 5 makes them ({error})") from None
    start = dict.fromkeys(BRANCHES, 0)
    found = []
    for row in rows:
        clip = StoredClip(**{name: row[name] for name in FACTS}, ids=NOTHING)
        for part in ("ids", *VARIANTS):
            if part in row:
                pieces = []
                for branch, count in zip(BRANCHES, row[part], strict=True):
                    pieces.append(arrays[branch][start[branch] : start[branch] + count])
                    start[branch] += count
                setattr(clip, part, BranchIds(*(piece.astype(np.int64) for piece in pieces)))
        found.append(clip)
    if any(start[branch] != len(arrays[branch]) for branch in BRANCHES):
        raise UASError(f"{folder} is damaged: remove it and make it again")
    return found
