"""Training examples of the tokenizer: cuts to features and targets.

Shapes: ``B`` batch, ``M`` mel bins, ``F`` mel frames, ``L`` and ``C`` text pieces.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from uas_plugin.data.audio import load_audio
from uas_plugin.data.targets import asr_target, uas_target
from uas_plugin.data.text import TextTokenizer
from uas_plugin.tokenizer.features import LogMel, pad_features
from uas_plugin.tokenizer.seq2seq import IGNORE

if TYPE_CHECKING:
    from lhotse import CutSet

TASKS = ("uas", "asr")


@dataclass(frozen=True)
class DecoderVocabulary:
    """Ids of the text decoder: the text pieces, then one start token a task.

    ``<|startofsap|>`` is the paper's; ``<|startofasr|>`` starts a plain transcription.
    """

    text_vocab_size: int
    eos: int
    pad: int

    @classmethod
    def of(cls, text: TextTokenizer) -> DecoderVocabulary:
        """The vocabulary over a text tokenizer."""
        return cls(text.vocab_size, text.eos_id, text.pad_id)

    def start(self, task: str) -> int:
        """Id of the start token of ``"uas"`` or ``"asr"``."""
        return self.text_vocab_size + TASKS.index(task)

    @property
    def size(self) -> int:
        """Number of ids."""
        return self.text_vocab_size + len(TASKS)


class FeatureCache:
    """Features of the clips seen last, up to a number of bytes (0: none are kept)."""

    def __init__(self, num_mel_bins: int, multiple: int, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._log_mel = LogMel(num_mel_bins, multiple)
        self._kept: OrderedDict[str, tuple[np.ndarray, int]] = OrderedDict()
        self._bytes = 0

    def get(self, cut: Any) -> tuple[np.ndarray, int]:
        """Log-mel features (M, F) of a cut and its valid frames."""
        if cut.id in self._kept:
            self._kept.move_to_end(cut.id)
            return self._kept[cut.id]
        features, lengths = self._log_mel([load_audio(cut)])
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


class TokenizerDataset(torch.utils.data.Dataset):
    """Batches of cuts to the tensors of ``TokenizerSeq2Seq.forward`` (Lhotse's dataset form).

    Args:
        text: text tokenizer of the targets.
        cache: features.
        class_labels: field -> labels of the class heads (empty: none).
        asr_share: share of the clips with a transcription whose target is the plain transcription.
        seed: decides with the cut id which clips these are.
        max_target: pieces of a target; longer ones are cut (the end token is lost with them).
    """

    def __init__(
        self,
        text: TextTokenizer,
        cache: FeatureCache,
        class_labels: dict[str, list[str]],
        asr_share: float,
        seed: int,
        max_target: int,
    ) -> None:
        self.text, self.cache, self.class_labels = text, cache, class_labels
        self.asr_share, self.seed, self.max_target = asr_share, seed, max_target
        self.vocabulary = DecoderVocabulary.of(text)

    def _task(self, cut: Any) -> str:
        if not self.asr_share or not cut.supervisions[0].text:
            return "uas"
        digest = hashlib.sha256(f"{self.seed} {cut.id}".encode()).digest()
        return "asr" if int.from_bytes(digest[:4], "big") < self.asr_share * 2**32 else "uas"

    def _target(self, cut: Any) -> tuple[list[int], list[int]]:
        task = self._task(cut)
        string = asr_target(cut) if task == "asr" else uas_target(cut)
        ids = self.text.encode(string)[: self.max_target - 1]
        return [self.vocabulary.start(task), *ids], [*ids, self.vocabulary.eos]

    def __getitem__(self, cuts: CutSet) -> tuple[list[str], dict[str, torch.Tensor]]:
        items = list(cuts)
        features, lengths = pad_features([self.cache.get(cut) for cut in items])
        inputs, labels = zip(*(self._target(cut) for cut in items), strict=True)
        spoken = [self.text.encode(cut.supervisions[0].text or "") for cut in items]
        batch = {
            # Frames first, as ESPnet's statistics expect: (B, F, M).
            "features": features.transpose(1, 2).contiguous(),
            "features_lengths": lengths,
            "decoder_input_ids": pad_ids(inputs, self.vocabulary.pad),
            "labels": pad_ids(labels, IGNORE),
            "ctc_ids": pad_ids(spoken, 0),
            "ctc_ids_lengths": torch.tensor([len(row) for row in spoken]),
        }
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
