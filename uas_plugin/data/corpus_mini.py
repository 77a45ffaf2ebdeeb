"""The default corpus ``mini``: synthesized from a seed, with exact truth for its annotations."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from uas_plugin.errors import UASError

CLIPS_PER_MINUTE = {
    "english": 15.0,
    "mandarin": 2.3,
    "digits": 2.7,
    "mix": 2.3,
    "sound": 6.5,
    "music": 3.3,
}
_KIND = {"english": "speech", "mandarin": "speech"}  # others: as the plan calls them
_LANGUAGE = {"english": "en", "mandarin": "zh", "digits": "en", "mix": "en"}


@dataclass(frozen=True, kw_only=True)
class MiniConfig:
    """Options of the synthesized corpus.

    Attributes:
        seed: of every text, voice, parameter and noise; the same seed gives the same samples.
        train_minutes, dev_minutes, test_minutes: about how much audio.
        clips_per_minute: the share of each kind; the defaults give about a minute a minute.
        train_clips_per_minute: the same for the training split, where it is to differ.
        snr_db: lowest and highest ratio of speech to background in mixtures.
        num_workers: processes; the result does not depend on it.
    """

    seed: int = 0
    train_minutes: float = 26.0
    dev_minutes: float = 3.0
    test_minutes: float = 8.5
    clips_per_minute: Mapping[str, float] = field(default_factory=lambda: dict(CLIPS_PER_MINUTE))
    train_clips_per_minute: Mapping[str, float] = field(default_factory=dict)
    snr_db: tuple[float, float] = (6.0, 12.0)
    num_workers: int = 2

    def __post_init__(self) -> None:
        for name in ("train_minutes", "dev_minutes", "test_minutes"):
            if not getattr(self, name) > 0:
                raise UASError(f"data.{name} must be above 0, not {getattr(self, name)}")
        if len(self.snr_db) != 2 or self.snr_db[0] > self.snr_db[1]:
            raise UASError("data.snr_db must be two numbers, the lower first")
        shares = [*self.clips_per_minute.items(), *self.train_clips_per_minute.items()]
        for kind, value in shares:
            if not isinstance(value, (int, float)) or value < 0:
                raise UASError(f"data.clips_per_minute.{kind} must be a number >= 0, not {value!r}")


def prepare_mini(config: MiniConfig, output_dir: Path) -> dict[str, Any]:
    """Synthesize the corpus below ``output_dir`` and write its manifests.

    Restartable: finished audio files of the same plan are kept.

    Returns:
        What ``info.json`` holds.
    """
    from uas_plugin.data.manifests import SPLITS
    from uas_plugin.data.output import write_corpus
    from uas_plugin.data.spill import SortedCuts
    from uas_plugin.data.synth.plan import make_plan
    from uas_plugin.data.synth.render import render_all

    snr_db = (float(config.snr_db[0]), float(config.snr_db[1]))
    plan = []
    for split in SPLITS:
        shares = dict(config.clips_per_minute)
        if split == "train":
            shares.update(config.train_clips_per_minute)
        minutes = {split: getattr(config, f"{split}_minutes")}
        plan += make_plan(config.seed, minutes, shares, snr_db)
    files = render_all(plan, output_dir / "audio", config.num_workers)
    cuts = {split: SortedCuts() for split in SPLITS}
    for clip, (path, num_samples) in zip(plan, files, strict=True):
        cuts[clip.split].add(_cut(clip, path, num_samples))
    facts = {"corpus": "mini", "seed": config.seed}
    info = write_corpus(output_dir, cuts, {}, facts)
    logging.info("mini: %d clips, %.1f min", info["clips"], info["hours"] * 60)
    return info


def _cut(clip: Any, path: Path, num_samples: int) -> Any:
    from uas_plugin.data.output import make_cut
    from uas_plugin.data.synth import RATE
    from uas_plugin.data.synth.plan import annotation, labels
    from uas_plugin.schema.text import validate

    custom: dict[str, Any] = {
        "uas": validate(annotation(clip)).to_dict(),
        "kind": _KIND.get(clip.kind, clip.kind),
        "labels": labels(clip),
        "unscored": [],
    }
    if clip.voice is not None:
        custom["split_note"] = "voice and text of this split only"
        custom["parameters"] = {key: round(value, 3) for key, value in clip.manner.items()}
    else:
        custom["parameters"] = {"setting": clip.setting}
    return make_cut(
        id=clip.id,
        path=path,
        sampling_rate=RATE,
        num_samples=num_samples,
        text=clip.text,
        language=_LANGUAGE.get(clip.kind),
        speaker=clip.voice.name if clip.voice else None,
        custom=custom,
    )
