"""Ids to waveforms: what `uas_plugin.load_codec` gives for a ReasoningCodec.

Shapes: `N` reasoning tokens, `T` reconstruction frames, `S` samples at 24 kHz.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from uas_plugin.codec.reasoning.branches import (
    CODEBOOKS,
    BranchIds,
    check_codes,
    check_rates,
)
from uas_plugin.codec.reasoning.config import (
    RECONSTRUCTION_RATE,
    SAMPLING_RATE,
    WINDOW_SECONDS,
)
from uas_plugin.codec.reasoning.mel_latents import MelLatents
from uas_plugin.codec.reasoning.model import ReasoningCodec
from uas_plugin.codec.reasoning.sq_codec import SQCodec
from uas_plugin.codec.reasoning.windows import CODES, DecodePlan, cross_fade
from uas_plugin.errors import UASError

SEED = 42


@dataclass(frozen=True)
class DecodeOptions:
    """How to decode.

    Args:
        n_steps: Euler steps of the flow. guidance: strength of classifier-free guidance.
        seed: of the noise. window_seconds: length of a window; the published command uses 20.
        published: the published windows, whose waves drift against their tokens.
    """

    n_steps: int = 10
    guidance: float = 1.5
    seed: int = SEED
    window_seconds: float = WINDOW_SECONDS
    published: bool = False

    def __post_init__(self) -> None:
        if self.n_steps < 1:
            raise UASError(f"n_steps must be at least 1, not {self.n_steps}")
        if not 2 <= self.window_seconds <= 60:
            raise UASError(f"window_seconds must be 2 .. 60, not {self.window_seconds}")


class ReasoningDecoder:
    """Ids to audio; made by `uas_plugin.load_codec`.

    Attributes:
        sampling_rate: of the waveforms, in Hz. frame_rate, codebook_size: of the reconstruction
            branch.

    Args:
        fill: a clip shorter than a window is repeated to fill it, as the release was trained.
    """

    sampling_rate = SAMPLING_RATE
    frame_rate = RECONSTRUCTION_RATE
    num_codebooks = CODEBOOKS

    def __init__(
        self, model: ReasoningCodec, sq_codec: SQCodec | MelLatents, *, fill: bool = True
    ) -> None:
        if sq_codec.config.latent_hidden_dim != model.config.latent_dim:
            raise UASError(
                f"the SQ-Codec has latents of {sq_codec.config.latent_hidden_dim} channels, the "
                f"ReasoningCodec of {model.config.latent_dim}: they do not belong together"
            )
        self.model, self.sq_codec, self.fill = model.eval(), sq_codec.eval(), fill

    @property
    def codebook_size(self) -> int:
        return self.model.config.codes

    @property
    def device(self) -> torch.device:
        return self.model.zero_cond_embedding1.device

    def to(self, device: torch.device | str) -> ReasoningDecoder:
        self.model.to(device)
        self.sq_codec.to(device)
        return self

    def decode(
        self, ids: np.ndarray | BranchIds, reasoning: np.ndarray | None = None, **options: Any
    ) -> tuple[np.ndarray, int]:
        """Waveform (S,) float32 and its rate.

        Args:
            ids: (T, 8) of the reconstruction branch, or both branches.
            reasoning: (N, 8); with both branches in ``ids`` it is not needed. Without reasoning
                ids the audio is made of the reconstruction ids alone, as the published command
                does.
            options: of `DecodeOptions`.

        Raises:
            UASError: ids of a wrong shape or outside the codebook, or branches swapped.
        """
        wav = np.concatenate(list(self.stream(ids, reasoning, **options)))
        return wav, self.sampling_rate

    def decode_batch(
        self, ids: Sequence[np.ndarray | BranchIds], **options: Any
    ) -> tuple[list[np.ndarray], int]:
        """Waveforms of several clips; each as `decode` alone gives it (up to float rounding)."""
        chosen = DecodeOptions(**options)
        clips = [self._checked(one, None, f"clip {i}") for i, one in enumerate(ids)]
        plans = [self._plan(len(clip.reconstruction), chosen) for clip in clips]
        wavs: list[np.ndarray] = [np.zeros(0, dtype=np.float32)] * len(clips)
        # Those of one window length and with or without reasoning ids go together.
        kinds = [(plan.window, len(clip.reasoning) > 0) for plan, clip in zip(plans, clips)]
        for kind in dict.fromkeys(kinds):
            rows = [i for i, other in enumerate(kinds) if other == kind]
            made = self._windows([clips[i] for i in rows], plans[rows[0]], chosen)
            for i, pieces in zip(rows, zip(*made)):
                waves = (piece for piece in pieces if piece is not None)
                wavs[i] = self._joined(waves, plans[i], len(clips[i].reconstruction))
        return wavs, self.sampling_rate

    def stream(
        self, ids: np.ndarray | BranchIds, reasoning: np.ndarray | None = None, **options: Any
    ) -> Iterator[np.ndarray]:
        """Pieces (samples,) float32 of the waveform; two windows are in memory at a time."""
        chosen = DecodeOptions(**options)
        clip = self._checked(ids, reasoning, "ids")
        frames = len(clip.reconstruction)
        plan = self._plan(frames, chosen)
        waves = (row[0] for row in self._windows([clip], plan, chosen) if row[0] is not None)
        for piece in cross_fade(waves, plan.wave_hop, self._samples(frames)):
            yield piece.astype(np.float32)

    def _samples(self, frames: int) -> int:
        return int(frames / RECONSTRUCTION_RATE * self.sampling_rate)

    def _joined(self, waves: Iterator[np.ndarray], plan: DecodePlan, frames: int) -> np.ndarray:
        pieces = list(cross_fade(waves, plan.wave_hop, self._samples(frames)))
        return np.concatenate(pieces).astype(np.float32)

    def _plan(self, frames: int, options: DecodeOptions) -> DecodePlan:
        rate, seconds = self.sampling_rate, options.window_seconds
        plan = DecodePlan.make(seconds, rate, published=options.published)
        if not self.fill and not options.published and frames < plan.window:
            units = max(2, -(-frames // CODES))
            plan = DecodePlan.make(units * CODES / RECONSTRUCTION_RATE, rate)
        return plan

    @torch.inference_mode()
    def _windows(
        self, clips: Sequence[BranchIds], plan: DecodePlan, options: DecodeOptions
    ) -> Iterator[list[np.ndarray | None]]:
        """Waves of the windows, clip by clip; None for a clip that has ended."""
        counts = [plan.count(len(clip.reconstruction)) for clip in clips]
        noises = [torch.Generator().manual_seed(options.seed) for _ in clips]
        before: dict[int, torch.Tensor] = {}
        channels = self.model.config.latent_dim
        for k in range(max(counts, default=0)):
            rows = [i for i, count in enumerate(counts) if k < count]
            noise = torch.stack(
                [torch.randn(2 * plan.window, channels, generator=noises[i]) for i in rows]
            )
            codes = [clips[i].reconstruction[plan.rows(len(clips[i].reconstruction), k)]
                     for i in rows]  # fmt: skip
            reasons = [clips[i].reasoning for i in rows]
            tokens = None
            if len(reasons[0]):
                tokens = self._tensor([r[plan.reasoning_rows(len(r), k)] for r in reasons])
            known = torch.stack([before[i] for i in rows]) if k else None
            latents = self.model.latents(
                self._tensor(codes),
                noise.to(self.device),
                tokens,
                known=known,
                n_steps=options.n_steps,
                guidance=options.guidance,
            )
            waves = self.sq_codec.decode(latents.transpose(1, 2))[:, 0].cpu().numpy()
            made: list[np.ndarray | None] = [None] * len(clips)
            for i, latent, wave in zip(rows, latents, waves):
                before[i] = latent[plan.known_start : plan.known_start + plan.known]
                made[i] = wave
            yield made

    def _tensor(self, rows: Sequence[np.ndarray]) -> torch.Tensor:
        return torch.from_numpy(np.stack(rows).astype(np.int64)).to(self.device)

    def _checked(
        self, ids: np.ndarray | BranchIds, reasoning: np.ndarray | None, name: str
    ) -> BranchIds:
        if isinstance(ids, BranchIds):
            ids, reasoning = ids.reconstruction, ids.reasoning if reasoning is None else reasoning
        config = self.model.config
        codes = np.asarray(ids)
        check_codes(codes, config.codes, name)
        if not len(codes):
            raise UASError(f"{name}: no token ids")
        if reasoning is None or not len(reasoning):
            return BranchIds(np.zeros((0, CODEBOOKS), dtype=np.int64), codes)
        check_codes(np.asarray(reasoning), config.reasoning_codes, f"{name}, reasoning")
        both = BranchIds(np.asarray(reasoning), codes)
        check_rates(both, name)
        return both

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write a folder that `uas_plugin.load_codec` reads."""
        from uas_plugin.codec.reasoning.folders import save

        save(Path(folder), self.model, sq_codec=self.sq_codec, fill=self.fill)
