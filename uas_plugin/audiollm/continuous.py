"""The LM data with its audio as waveforms: the same items, heard by the audio encoder.

The data stage writes each clip's codebook entries. Here they give way to as many slots as the
encoder makes states of the clip; so discrete and continuous input train on the same items, in the
same code.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from uas_plugin.audiollm.audio_input import AUDIO_SLOT, pad_mels, slot_count
from uas_plugin.audiollm.dataset import PREFIX, GroupDataset
from uas_plugin.audiollm.hearing import cut_mel, cut_samples
from uas_plugin.audiollm.vocabulary import Vocabulary
from uas_plugin.data.manifests import load_cuts
from uas_plugin.errors import UASError


class ContinuousGroups(GroupDataset):
    """A set of groups whose prefixes hold slots for the audio encoder's states.

    Args:
        folder: of the LM data stage. cuts: manifest with the recordings of its clips (it is held
            in memory, the audio is not). vocabulary: of the data. mel_bins: of the encoder.

    Raises:
        UASError: a clip of the set is not in the manifest.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        cuts: str | os.PathLike[str],
        vocabulary: Vocabulary,
        mel_bins: int,
    ) -> None:
        super().__init__(folder)
        self.vocabulary, self.mel_bins = vocabulary, mel_bins
        known = {cut.id: cut for cut in load_cuts(cuts)}
        missing = [name for name in self.ids() if name not in known]
        if missing:
            raise UASError(f"{cuts} lacks {len(missing)} clips of {folder}, first {missing[0]}")
        self._cuts = [known[name] for name in self.ids()]

    def samples(self, group: int) -> int:
        """Samples of a group's clip at the encoder's rate."""
        return cut_samples(self._cuts[group])

    def length(self, segment: int) -> int:
        """Tokens and slots of a segment."""
        stored = super().length(segment)
        if not stored or self.task(segment) != PREFIX:
            return stored
        ids, _ = super().segment(segment)
        codes = int((ids >= self.vocabulary.audio_start).sum())
        return stored - codes + slot_count(self.samples(self.group_of(segment)))

    def segment(self, segment: int) -> tuple[np.ndarray, int]:
        """As of the base class, with slots (``AUDIO_SLOT``) for codebook entries in a prefix."""
        ids, answer = super().segment(segment)
        if self.task(segment) != PREFIX or not len(ids):
            return ids, answer
        start, end = self._span(ids)
        slots = np.full(slot_count(self.samples(self.group_of(segment))), AUDIO_SLOT)
        changed = np.concatenate([ids[:start], slots, ids[end:]])
        return changed, len(changed)

    def _span(self, ids: np.ndarray) -> tuple[int, int]:
        """Where the codebook entries of a prefix stand."""
        starts = np.flatnonzero(ids == self.vocabulary.audio_bos)
        ends = np.flatnonzero(ids == self.vocabulary.audio_eos)
        if len(starts) != 1 or len(ends) != 1:
            raise UASError(f"{self.folder}: a prefix has {len(starts)} audio spans, not one")
        return int(starts[0]) + 1, int(ends[0])

    def mel(self, group: int) -> np.ndarray:
        """Log-mel ``(mel, frames)`` of a group's clip, as many frames as its slots stand for."""
        return cut_mel(self._cuts[group], self.mel_bins)

    def hear(self, rows: Sequence[Sequence[list[int]]]) -> dict[str, np.ndarray]:
        """What packed rows hear, in the order of their slots.

        Returns:
            ``audio`` (A, mel, T) float32 and ``audio_frames`` (A,) int64; A may be 0.
        """
        heard = [unit[0] for row in rows for unit in row if self.length(unit[0])]
        audio, frames = pad_mels([self.mel(self.group_of(s)) for s in heard], self.mel_bins)
        return {"audio": audio, "audio_frames": frames}
