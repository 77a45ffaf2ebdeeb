"""Prompts of a model with continuous audio input: slots among the ids, and the clips behind them.

Training fills slots from the LM data (``continuous.py``), decoding from the parts of a message;
both take a clip's log-mel from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from uas_plugin.audiollm.audio_input import (
    AUDIO_SLOT,
    SAMPLING_RATE,
    AudioInput,
    fill_slots,
    log_mel,
    pad_mels,
    state_count,
)
from uas_plugin.data.audio import first_channel, load_audio
from uas_plugin.errors import UASError


class Prompt(list[int]):
    """Ids of a prompt; ``mels``: log-mel ``(mel, frames)`` of each clip that its slots stand for,
    in their order.
    """

    def __init__(self, ids: Iterable[int], mels: Sequence[np.ndarray] = ()) -> None:
        super().__init__(ids)
        self.mels = tuple(mels)


def audio_source(part: Mapping[str, Any]) -> Any:
    """The audio of a message's part: a path, a cut, or a waveform and its rate in Hz.

    Raises:
        UASError: the part has none, or names a file that does not exist.
    """
    audio = part.get("path", part.get("audio"))
    if audio is None:
        raise UASError("an audio part needs 'tokens', 'path' or 'audio' (waveform, Hz)")
    if "path" in part and not Path(audio).is_file():
        raise UASError(f"audio file {audio} of a message does not exist")
    return audio


def part_mel(part: Mapping[str, Any], mel_bins: int) -> np.ndarray:
    """Log-mel ``(mel_bins, frames)`` of an audio part of a message.

    Raises:
        UASError: the part holds tokens, or no audio that can be read.
    """
    if part.get("tokens") is not None:
        raise UASError(
            "this model hears through an audio encoder and knows no tokens of input: "
            "give 'path' or 'audio' (waveform, Hz)"
        )
    audio = audio_source(part)
    if isinstance(audio, tuple):
        wave = first_channel(audio, SAMPLING_RATE, "audio of a message")
    elif hasattr(audio, "recording"):
        return cut_mel(audio, mel_bins)
    else:
        wave = load_audio(audio, SAMPLING_RATE)
    return log_mel(wave, mel_bins)


def cut_samples(cut: Any) -> int:
    """Samples of a cut at the encoder's rate."""
    return round(cut.duration * SAMPLING_RATE)


def cut_mel(cut: Any, mel_bins: int) -> np.ndarray:
    """Log-mel ``(mel_bins, frames)`` of a cut, as many frames as its duration says."""
    wave, wanted = load_audio(cut, SAMPLING_RATE), cut_samples(cut)
    # Resampling may give a sample more or less.
    wave = np.pad(wave[:wanted], (0, max(0, wanted - len(wave))))
    return log_mel(wave, mel_bins)


def slots_of(mel: np.ndarray) -> list[int]:
    """The ids that stand for a clip's states."""
    return [AUDIO_SLOT] * int(state_count(mel.shape[1]))


@torch.no_grad()
def embed_prompts(
    lm: Any, audio: AudioInput, tokens: Tensor, prompts: Sequence[Sequence[int]]
) -> Tensor:
    """Input embeddings ``(B, L, D)`` of padded prompts, their clips in the slots.

    Args:
        tokens: ``(B, L)`` ids of ``prompts`` with padding (and more ids) around them.
        prompts: each a :class:`Prompt` where it holds slots.
    """
    mels = [mel for prompt in prompts for mel in getattr(prompt, "mels", ())]
    padded, frames = pad_mels(mels, audio.mel_bins)
    embedded = lm.get_input_embeddings()(tokens.clamp_min(0))
    place = audio.projection.weight
    states = audio(
        torch.from_numpy(padded).to(place.device, place.dtype),
        torch.from_numpy(frames).to(place.device),
    )
    return fill_slots(embedded, tokens, states)
