"""Audio to the ids of both branches: what `uas_plugin.load_tokenizer` gives for a ReasoningCodec.

Shapes: `N` reasoning tokens, `T` reconstruction frames.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from uas_plugin.codec.reasoning.branches import CODEBOOKS, BranchIds
from uas_plugin.codec.reasoning.config import (
    REASONING_RATE,
    RECONSTRUCTION_RATE,
    SAMPLING_RATE,
    WINDOW_SECONDS,
)
from uas_plugin.codec.reasoning.encoders import FrozenEncoders
from uas_plugin.codec.reasoning.model import ReasoningCodec
from uas_plugin.codec.reasoning.reading import Clip
from uas_plugin.codec.reasoning.small_encoders import SmallEncoders
from uas_plugin.codec.reasoning.windows import (
    EncodeWindow,
    encode_windows,
    segment_length,
    token_counts,
)
from uas_plugin.errors import UASError
from uas_plugin.tokenizer.extract import Batching


class ReasoningTokenizer:
    """Audio to ids; made by `uas_plugin.load_tokenizer`.

    Attributes:
        sampling_rate: Hz that it hears (audio at other rates is resampled).
        frame_rate, codebook_size: of the reconstruction branch; ids are (T, 8).
        reasoning_rate, reasoning_codebook_size: of the reasoning branch; ids are (N, 8).

    Args:
        fill: clips shorter than 30 s are repeated to that length, as the release was trained;
            without, they are filled with silence to 0.4 s only, which costs less.
    """

    sampling_rate = SAMPLING_RATE
    frame_rate, reasoning_rate = RECONSTRUCTION_RATE, REASONING_RATE
    num_codebooks = CODEBOOKS

    def __init__(
        self,
        model: ReasoningCodec,
        encoders: FrozenEncoders | SmallEncoders,
        *,
        fill: bool = True,
    ) -> None:
        self.model, self.encoders, self.fill = model.eval(), encoders.eval(), fill

    @property
    def codebook_size(self) -> int:
        return self.model.config.codes

    @property
    def reasoning_codebook_size(self) -> int:
        return self.model.config.reasoning_codes

    @property
    def device(self) -> torch.device:
        return self.model.zero_cond_embedding1.device

    def to(self, device: Any = None, dtype: Any = None) -> ReasoningTokenizer:
        """Move both; ``dtype`` is that of the encoders (quantizers stay in float32)."""
        self.model.to(device)
        self.encoders.to(device=device, dtype=dtype)
        return self

    def encode(
        self, audios: Sequence[Any], batch_size: int = 4, *, published: bool = False
    ) -> list[BranchIds]:
        """Ids of both branches of each audio, in order.

        Args:
            audios: paths, pairs of a waveform and its rate in Hz, or Lhotse cuts.
            batch_size: windows of 30 s that are encoded together.
            published: cut into windows as the published code does (see `windows`).

        Raises:
            UASError: an audio cannot be used.
        """
        named = ((f"audio {i}", audio) for i, audio in enumerate(audios))
        results = []
        for _, ids in self.encode_stream(named, batch_size, published=published):
            if isinstance(ids, UASError):
                raise ids
            results.append(ids)
        return results

    def encode_stream(
        self,
        audios: Iterable[tuple[str, Any]],
        batching: int | Batching = 4,
        *,
        published: bool = False,
    ) -> Iterator[tuple[str, BranchIds | UASError]]:
        """``(key, ids)`` of any number of ``(key, audio)``, in order; an audio of a file is read
        window by window. One that cannot be used gives its error, and the rest goes on.

        Args:
            batching: windows of 30 s that are encoded together, or so many as fill its seconds.
        """
        if isinstance(batching, Batching):
            batching = max(1, int(batching.batch_seconds / WINDOW_SECONDS))
        batch_size = batching
        waiting: list[_Pending] = []
        batch: list[tuple[_Pending, EncodeWindow, np.ndarray]] = []
        for key, source in audios:
            entry = _Pending(key)
            waiting.append(entry)
            try:
                clip = Clip(source, key)
                entry.counts = token_counts(clip.samples, published=published)
                for window in self._windows(clip.samples, published):
                    wave = clip.rows(window.rows)
                    if batch and (len(batch) >= batch_size or len(batch[0][2]) != len(wave)):
                        self._run(batch)
                    entry.open += 1
                    batch.append((entry, window, wave))
                entry.read = True
            except UASError as error:
                entry.error = error
            yield from _finished(waiting)
        self._run(batch)
        yield from _finished(waiting)

    def _windows(self, samples: int, published: bool) -> Iterable[EncodeWindow]:
        if published or self.fill or samples > int(WINDOW_SECONDS * SAMPLING_RATE):
            return encode_windows(samples, published=published)
        steps = np.arange(segment_length(samples))
        return [EncodeWindow(np.where(steps < samples, steps, -1))]

    @torch.inference_mode()
    def _run(self, batch: list[tuple[_Pending, EncodeWindow, np.ndarray]]) -> None:
        """Encode what is gathered and hand it to its clips."""
        if not batch:
            return
        waves = torch.from_numpy(np.stack([wave for _, _, wave in batch]))
        out = self.model.encode(self.encoders(waves.to(self.device)))
        reasoning, reconstruction = out.reasoning.ids.cpu(), out.reconstruction_ids.cpu()
        for row, (entry, window, _) in enumerate(batch):
            entry.open -= 1
            entry.reasoning.append(reasoning[row, window.skip_reasoning :].numpy())
            entry.reconstruction.append(reconstruction[row, window.skip_reconstruction :].numpy())
        batch.clear()

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write a folder that `uas_plugin.load_tokenizer` reads."""
        from uas_plugin.codec.reasoning.folders import save

        save(Path(folder), self.model, encoders=self.encoders, fill=self.fill)


class _Pending:
    """A clip some of whose windows are not encoded yet."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.open, self.read = 0, False
        self.error: UASError | None = None
        self.counts = (0, 0)
        self.reasoning: list[np.ndarray] = []
        self.reconstruction: list[np.ndarray] = []

    @property
    def done(self) -> bool:
        return self.error is not None or (self.read and not self.open)

    def result(self) -> BranchIds | UASError:
        if self.error is not None:
            return self.error
        reasoning, reconstruction = self.counts
        return BranchIds(
            np.concatenate(self.reasoning)[:reasoning],
            np.concatenate(self.reconstruction)[:reconstruction],
        )


def _finished(waiting: list[_Pending]) -> Iterator[tuple[str, BranchIds | UASError]]:
    while waiting and waiting[0].done:
        entry = waiting.pop(0)
        yield entry.key, entry.result()
