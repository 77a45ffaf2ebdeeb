"""Two-way classification from demonstrations: which of two shown labels fits a sound.

An episode shows clips of two classes with their labels and asks for the label of another clip. The
answer is the label that the model holds likelier (mean over its ids), so chance is one half.
Shapes: `R` rows, `T` frames.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from uas_plugin.audiollm.uniaudio2.api import UnifiedLM
from uas_plugin.audiollm.uniaudio2.clips import StoredClip
from uas_plugin.audiollm.uniaudio2.config import STREAMS, TEXT
from uas_plugin.audiollm.uniaudio2.items import Item, fields_of
from uas_plugin.audiollm.uniaudio2.packing import Packed
from uas_plugin.audiollm.uniaudio2.tasks import get_task
from uas_plugin.data.sampling import seeded

TASK = "sound_classification"
CONTROLS = ("none", "swapped", "shuffled", "no_demonstrations")


@dataclass(frozen=True)
class Episode:
    """``query`` is of class ``labels[answer]``; ``shown``: clips with the index of their label."""

    query: StoredClip
    labels: tuple[str, str]
    answer: int
    shown: tuple[tuple[StoredClip, int], ...]
    group: str


def episodes(
    clips: Iterable[StoredClip],
    support: Iterable[StoredClip],
    held_out: Iterable[str],
    *,
    shots: int = 1,
    repeats: int = 2,
    seed: int = 0,
) -> list[Episode]:
    """Episodes of every clip with a sound's label, drawn by ``seed``.

    Args:
        support: clips to show. held_out: classes that were not trained on; the two classes of an
            episode are both of them (group "held_out") or both not ("trained").
        shots: clips shown of each class. repeats: episodes of a clip.
    """
    hidden = frozenset(held_out)
    shown = {k: v for k, v in _by_class(support).items() if len(v) >= shots}
    found = []
    for label, members in sorted(_by_class(clips).items()):
        group = sorted(c for c in shown if (c in hidden) == (label in hidden) and c != label)
        if not group or label not in shown:
            continue
        for query in members:
            for k in range(repeats):
                rng = seeded("few_shot", seed, query.name, k)
                other = group[int(rng.integers(len(group)))]
                found.append(_episode(query, label, other, shown, shots, label in hidden, rng))
    return found


def _by_class(clips: Iterable[StoredClip]) -> dict[str, list[StoredClip]]:
    found: dict[str, list[StoredClip]] = defaultdict(list)
    for clip in clips:
        if (label := clip.labels.get("sound")) and not clip.text:
            found[label].append(clip)
    return found


def _episode(
    query: StoredClip,
    label: str,
    other: str,
    by_class: dict[str, list[StoredClip]],
    shots: int,
    hidden: bool,
    rng: np.random.Generator,
) -> Episode:
    labels = [label, other]
    answer = int(rng.integers(2))
    if answer:
        labels.reverse()
    shown = []
    for index, name in enumerate(labels):
        pool = by_class[name]
        chosen = rng.permutation(len(pool))[:shots]
        shown += [(pool[i], index) for i in chosen]
    order = rng.permutation(len(shown))
    group = "held_out" if hidden else "trained"
    return Episode(query, (labels[0], labels[1]), answer, tuple(shown[i] for i in order), group)


def controlled(episode: Episode, control: str, other: Episode) -> Episode:
    """The episode under a control.

    "swapped": shown clips have each other's labels. "shuffled": the query is ``other``'s.
    "no_demonstrations": nothing is shown.
    """
    if control == "swapped":
        return replace(episode, shown=tuple((clip, 1 - index) for clip, index in episode.shown))
    if control == "shuffled":
        return replace(episode, query=other.query)
    return replace(episode, shown=()) if control == "no_demonstrations" else episode


def answer_episodes(
    lm: UnifiedLM, found: Sequence[Episode], batch_size: int = 16
) -> Iterator[dict[str, Any]]:
    """A row an episode: which label the model chose under each control (index), and the truth."""
    order = [found[(i + len(found) // 2) % len(found)] for i in range(len(found))]
    chosen = {
        control: _choices(lm, [controlled(e, control, o) for e, o in zip(found, order)], batch_size)
        for control in CONTROLS
    }
    for i, episode in enumerate(found):
        yield {
            "id": episode.query.name,
            "group": episode.group,
            "labels": list(episode.labels),
            "answer": episode.answer,
            **{control: values[i] for control, values in chosen.items()},
        }


def _choices(lm: UnifiedLM, found: Sequence[Episode], batch_size: int) -> list[int]:
    rows = [_packed(lm, episode, label) for episode in found for label in episode.labels]
    scores = np.concatenate(
        [_scores(lm, rows[i : i + batch_size]) for i in range(0, len(rows), batch_size)]
    )
    return [int(pair) for pair in scores.reshape(-1, 2).argmax(axis=1)]


def _packed(lm: UnifiedLM, episode: Episode, label: str) -> Packed:
    task, encode = get_task(TASK), lm.text.encode
    shown = [Item(audio=c.ids, answer_text=episode.labels[index]) for c, index in episode.shown]
    item = Item(audio=episode.query.ids, answer_text=label)
    return lm.packer.pack(
        task,
        fields_of(task, item, encode, targets=True),
        lm.text.prompt(task.prompts[0]),
        targets=True,
        demonstrations=[fields_of(task, one, encode, targets=True) for one in shown],
        max_frames=lm.model.config.max_frames + 1,
    )


@torch.inference_mode()
def _scores(lm: UnifiedLM, rows: Sequence[Packed]) -> np.ndarray:
    """(R,) mean log-probability of each row's target ids; padding stands behind, unseen."""
    longest = max(map(len, rows))
    tokens = torch.zeros(len(rows), longest, STREAMS, dtype=torch.long)
    mask = torch.zeros(len(rows), longest, STREAMS, dtype=torch.bool)
    wanted = torch.zeros(len(rows), longest, dtype=torch.bool)
    for i, row in enumerate(rows):
        tokens[i, : len(row)], mask[i, : len(row)] = map(torch.from_numpy, (row.tokens, row.mask))
        wanted[i, : len(row)] = torch.from_numpy(row.loss_mask[:, TEXT])
    tokens, mask, wanted = (x.to(lm.device) for x in (tokens, mask, wanted))
    logits = lm.model.text_logits(tokens[:, :-1], mask[:, :-1]).float().log_softmax(dim=-1)
    each = logits.gather(-1, tokens[:, 1:, TEXT, None])[..., 0] * wanted[:, 1:]
    return (each.sum(dim=1) / wanted[:, 1:].sum(dim=1)).cpu().numpy()
