"""Training examples of the tokenizer: cuts to features and targets.

Shapes: ``B`` batch, ``M`` mel bins, ``F`` mel frames, ``L`` and ``C`` text pieces.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from uas_plugin.data.audio import load_audio
from uas_plugin.data.targets import target_text
from uas_plugin.errors import UASError
from uas_plugin.tokenizer.features import LogMel, pad_features
from uas_plugin.tokenizer.seq2seq import IGNORE
from uas_plugin.tokenizer.vocabulary import DecoderVocabulary

if TYPE_CHECKING:
    from lhotse import CutSet


class FeatureCache:
    """Features of the clips seen last, up to a number of bytes (0: none are kept)."""

    def __init__(self, num_mel_bins: int, multiple: int, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.log_mel = LogMel(num_mel_bins, multiple)
        self._kept: OrderedDict[str, tuple[np.ndarray, int]] = OrderedDict()
        self._bytes = 0

    def get(self, cut: Any) -> tuple[np.ndarray, int]:
        """Log-mel features (M, F) of a cut and its valid frames."""
        if cut.id in self._kept:
            self._kept.move_to_end(cut.id)
            return self._kept[cut.id]
        features, lengths = self.log_mel([load_audio(cut)])
        item = features[0].numpy(), int(lengths[0])
        self._kept[cut.id] = item
        self._bytes += item[0].nbytes
        while self._bytes > self.max_bytes:
            self._bytes -= self._kept.popitem(last=False)[1][0].nbytes
        return item


def pad_ids(rows: Sequence[Sequence[int]], value: int) -> torch.Tensor:
    """Stack id lists: (B, L) int64 padded with ``value``."""
    longest = max(1, *(len(row) for row in rows)) if rows else 1
    return torch.tensor([list(row) + [value] * (longest - len(row)) for row in rows])


@dataclass(frozen=True)
class Targets:
    """What the text decoder is asked for a clip, and what it must answer.

    Attributes:
        text: text tokenizer.
        tasks: task -> weight. A clip gets one task, drawn once and for all from its id among those
            it has a text for.
        seed: of that draw.
        max_pieces: longer targets are cut, and lose their end mark with the rest (as the release).
        min_text: characters below which a target carries no loss (as the release: 2).
    """

    text: Any
    tasks: dict[str, float]
    seed: int = 0
    max_pieces: int = 256
    min_text: int = 0

    def __post_init__(self) -> None:
        for task, weight in self.tasks.items():
            DecoderVocabulary.of(self.text).start(task)  # an unknown task is named
            if weight < 0:
                raise UASError(f"tasks: the weight of '{task}' must not be negative")
        if not sum(self.tasks.values()) > 0:
            raise UASError("tasks: at least one task needs a weight above 0")

    def task_of(self, cut: Any) -> str | None:
        """The task of a clip; None if it has a text for none of them."""
        kept = {
            task: weight
            for task, weight in self.tasks.items()
            if weight and target_text(cut, task) is not None
        }
        if not kept:
            return None
        digest = hashlib.sha256(f"{self.seed} {cut.id}".encode()).digest()
        point = int.from_bytes(digest[:4], "big") / 2**32 * sum(kept.values())
        for task, weight in kept.items():
            point -= weight
            if point < 0:
                return task
        return task

    def ids(self, cut: Any) -> tuple[list[int], list[int]]:
        """Decoder inputs and labels of a clip, of equal length; no loss where a label is -100.

        A clip without a text for any of the tasks (a sound where transcripts are asked for) trains
        the encoder's other losses alone.
        """
        vocabulary, task = DecoderVocabulary.of(self.text), self.task_of(cut)
        if task is None:
            return [vocabulary.start(next(iter(self.tasks)))[0]], [IGNORE]
        text = target_text(cut, task) or ""
        start = vocabulary.start(task)
        if len(text) < self.min_text:
            return [start[0]], [IGNORE]
        full = [*start, *self.text.encode(text), vocabulary.eos][: self.max_pieces + 1]
        return full[:-1], full[1:]


class TokenizerDataset(torch.utils.data.Dataset):
    """Batches of cuts to the tensors of ``TokenizerSeq2Seq.forward`` (Lhotse's dataset form).

    Args:
        targets: what the decoder is asked.
        cache: features.
        class_labels: field -> labels of the class heads (empty: none).
        noise: makes the noisy view of a waveform, given the cut (StableToken); None: no view.
    """

    def __init__(
        self,
        targets: Targets,
        cache: FeatureCache,
        class_labels: dict[str, list[str]],
        noise: Callable[[np.ndarray, Any], np.ndarray] | None = None,
    ) -> None:
        self.targets, self.cache, self.class_labels = targets, cache, class_labels
        self.noise = noise
        self.vocabulary = DecoderVocabulary.of(targets.text)

    def __getitem__(self, cuts: CutSet) -> tuple[list[str], dict[str, torch.Tensor]]:
        items = list(cuts)
        features, lengths = pad_features([self.cache.get(cut) for cut in items])
        inputs, labels = zip(*(self.targets.ids(cut) for cut in items), strict=True)
        encode = self.targets.text.encode
        spoken = [encode(cut.supervisions[0].text or "") for cut in items]
        batch = {
            # Frames first, as ESPnet's statistics expect: (B, F, M).
            "features": features.transpose(1, 2).contiguous(),
            "features_lengths": lengths,
            "decoder_input_ids": pad_ids(inputs, self.vocabulary.pad),
            "labels": pad_ids(labels, IGNORE),
            "ctc_ids": pad_ids(spoken, 0),
            "ctc_ids_lengths": torch.tensor([len(row) for row in spoken]),
        }
        if self.noise is not None:
            views = [self.noise(load_audio(cut), cut) for cut in items]
            noisy, _ = self.cache.log_mel(views)
            batch["noisy_features"] = noisy.transpose(1, 2).contiguous()
        for name, known in self.class_labels.items():
            values = [cut.supervisions[0].custom["labels"].get(name) for cut in items]
            ids = [known.index(value) if value in known else IGNORE for value in values]
            batch[f"class_{name}"] = torch.tensor(ids)
        return [cut.id for cut in items], batch


def collect_labels(cuts: Iterable[Any], fields: Sequence[str]) -> dict[str, list[str]]:
    """Sorted labels of each field in the training cuts; fields with fewer than two are left out."""
    found: dict[str, set[str]] = {field: set() for field in fields}
    for cut in cuts:
        labels = cut.supervisions[0].custom["labels"]
        for field in fields:
            if labels.get(field) is not None:
                found[field].add(labels[field])
    return {field: sorted(values) for field, values in found.items() if len(values) > 1}
