"""Token ids while the audio arrives, for tokenizers whose convolutions and attention look back.

A block of frames is encoded when it is complete, with the keys and values of the blocks before it
kept. Everything is as in the offline encoder (30 s chunks, causal blocks, one maximum a chunk), so
that the ids are its ids.

One thing of the offline features does not look back: values below the maximum of the whole chunk by
8 (in log10 of the mel power) are raised to that floor. A frame with all values above the highest
floor that samples within [-1, 1] can set is certain at once; from the first frame on that is not,
the rest of the chunk waits for its end (digital silence does this). With ``low_latency`` the floor
is that of the maximum so far: nothing waits, and ids differ from the offline ones where a louder
passage comes later and raises the floor above what was already encoded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from uas_plugin.errors import UASError
from uas_plugin.tokenizer import fusion, quantizer
from uas_plugin.tokenizer.encoder import FRAME_STRIDE, KERNEL, TokenizerEncoder
from uas_plugin.tokenizer.features import (
    CHUNK_SECONDS,
    HOP_LENGTH,
    SAMPLING_RATE,
    WINDOW,
    LogMel,
    scaled,
)


def stream(tokenizer, chunks: Iterable[np.ndarray], *, low_latency: bool) -> Iterator[np.ndarray]:
    """Token ids of audio that arrives in pieces.

    Args:
        tokenizer: an AudioTokenizer whose encoder is causal or block-causal.
        chunks: (samples,) float32 in [-1, 1] at ``tokenizer.sampling_rate``, of any lengths.
        low_latency: never wait for the end of a chunk (see the module's text).

    Yields:
        (T,) int64, T > 0; joined they are the ids of the whole audio.

    Raises:
        UASError: the encoder looks ahead, or a chunk is no waveform.
    """
    check_causal(tokenizer.encoder)
    size = CHUNK_SECONDS * SAMPLING_RATE
    state, filled = _Chunk(tokenizer, low_latency), 0
    for chunk in chunks:
        samples = _checked(chunk)
        while len(samples):
            part, samples = samples[: size - filled], samples[size - filled :]
            filled += len(part)
            yield from _given(state.push(part, final=filled == size))
            if filled == size:
                state, filled = _Chunk(tokenizer, low_latency), 0
    if filled:
        yield from _given(state.push(np.zeros(0, np.float32), final=True))


def check_causal(encoder: TokenizerEncoder) -> None:
    """Raise UASError unless the encoder needs no audio from beyond the present block."""
    config = encoder.config
    layers = range(1, config.kept_layers + 1)
    back = config.quantize_causal_block_size is not None or all(map(config.looks_back, layers))
    if not back or not config.encoder_causal_convolution:
        what = "attention" if not back else "convolutions"
        raise UASError(f"this tokenizer cannot stream: its {what} look ahead; use encode")


def _given(ids: np.ndarray) -> Iterator[np.ndarray]:
    if len(ids):
        yield ids


def _checked(chunk: np.ndarray) -> np.ndarray:
    samples = np.asarray(chunk)
    if samples.ndim != 1 or samples.dtype.kind != "f":
        raise UASError(f"a streamed chunk is (samples,) float, not {samples.dtype} {samples.shape}")
    if not np.isfinite(samples).all():
        raise UASError("a streamed chunk holds NaN or infinite samples")
    return samples.astype(np.float32, copy=False)


class _Chunk:
    """At most 30 s of audio on their way through the encoder."""

    def __init__(self, tokenizer, low_latency: bool) -> None:
        self.encoder: TokenizerEncoder = tokenizer.encoder
        config = self.encoder.config
        self.mel = _Mel(tokenizer.features, low_latency)
        self.convolutions = _Convolutions(self.encoder)
        self.pool, self.frames, self.emitted = config.pool, 0, 0
        block = config.quantize_causal_block_size
        at = (config.pooling_position or 0) if self.pool > 1 else 0
        # Frames before and after pooling have blocks of their own, which need not begin together.
        self.before = _Layers(self.encoder, range(1, at + 1), block)
        self.after = _Layers(
            self.encoder, range(at + 1, config.kept_layers + 1), block and block // self.pool
        )
        self.unpooled: Tensor | None = None

    @torch.inference_mode()
    def push(self, samples: np.ndarray, final: bool) -> np.ndarray:
        """Ids that these samples complete."""
        features = self.mel.push(samples, final)
        hidden = self.before.push(self._embed(self.convolutions.push(features)), final)
        hidden = self.after.push(self._pooled(hidden), final)
        if self.encoder.config.quantizer_type == "lfq":
            ids = self.encoder.quantizer(hidden).token_ids
        else:
            ids = quantizer.nearest_codes(hidden, self.encoder.codebook.weight)
        found = ids[0].cpu().numpy()
        if final:
            valid = -(-self.mel.received // (HOP_LENGTH * FRAME_STRIDE * self.pool))
            found = found[: max(0, valid - self.emitted)]
        self.emitted += len(found)
        return found

    def _embed(self, hidden: Tensor) -> Tensor:
        first, self.frames = self.frames, self.frames + hidden.shape[1]
        return hidden + self.encoder.embed_positions.weight[first : self.frames]

    def _pooled(self, hidden: Tensor) -> Tensor:
        if self.pool == 1:
            return hidden
        if self.unpooled is not None:
            hidden = torch.cat([self.unpooled, hidden], 1)
        whole = hidden.shape[1] // self.pool * self.pool
        self.unpooled = hidden[:, whole:]
        return self.encoder._pool(hidden[:, :whole]) if whole else hidden[:, :0]


class _Mel:
    """Samples to log-mel frames that are certain (or, with low latency, as they come)."""

    def __init__(self, features: LogMel, low_latency: bool) -> None:
        self.features, self.low_latency = features, low_latency
        self.received = 0
        self.samples = np.zeros(0, np.float32)  # from the margin before the next frame on
        self.started = False
        self.held: list[Tensor] = []  # (1, M, F) log power
        self.top = -torch.inf
        # |X|^2 sums to at most window length * energy of the window over the whole spectrum.
        energy = WINDOW * float(features.window.square().sum()) / 2
        self.bound = float(np.log10(float(features.filters.max()) * energy))

    def push(self, samples: np.ndarray, final: bool) -> Tensor:
        """(1, M, F) features, F even; at the end padded as the offline ones."""
        self.received += len(samples)
        log = self._log_power(samples, final)
        if log.shape[-1]:
            self.held.append(log)
            self.top = max(self.top, float(log.max()))
        held = torch.cat(self.held, -1) if self.held else log
        count = held.shape[-1]
        if not final and not self.low_latency:
            certain = (held >= self.bound - 8.0).all(1)[0]
            open_ones = torch.nonzero(~certain)
            count = int(open_ones[0]) if len(open_ones) else count
        if not final:
            count -= count % FRAME_STRIDE
        self.held = [held[..., count:]]
        return scaled(held[..., :count], torch.tensor(self.top, device=held.device))

    def _log_power(self, samples: np.ndarray, final: bool) -> Tensor:
        margin = WINDOW // 2
        self.samples = np.concatenate([self.samples, samples])
        if final:
            missing = self.features.frames(self.received) * HOP_LENGTH - self.received
            self.samples = np.concatenate([self.samples, np.zeros(missing, np.float32)])
        if not self.started and (final or len(self.samples) > margin):
            self.samples = np.concatenate([self.samples[margin:0:-1], self.samples])
            self.started = True
        if final:
            self.samples = np.concatenate([self.samples, self.samples[-2 : -margin - 2 : -1]])
        frames = (len(self.samples) - WINDOW) // HOP_LENGTH + 1 if self.started else 0
        # The offline features leave out the last frame of the spectrum.
        frames = max(0, frames - 1 if final else frames)
        device = self.features.window.device
        if not frames:
            return torch.zeros(1, len(self.features.filters), 0, device=device)
        used = self.samples[: (frames - 1) * HOP_LENGTH + WINDOW]
        self.samples = self.samples[frames * HOP_LENGTH :]
        return self.features.log_power(torch.from_numpy(used[None].copy()).to(device))


class _Convolutions:
    """The two causal convolutions, each with the two frames before the next."""

    def __init__(self, encoder: TokenizerEncoder) -> None:
        self.encoder = encoder
        self.past: list[Tensor | None] = [None, None]

    def push(self, features: Tensor) -> Tensor:
        """(1, M, F) -> (1, F / 2, D); F even."""
        hidden = features.to(self.encoder.conv1.weight.dtype)
        if not hidden.shape[-1]:
            return hidden.new_zeros(1, 0, self.encoder.config.d_model)
        for index, conv in enumerate((self.encoder.conv1, self.encoder.conv2)):
            past = self.past[index]
            if past is None:
                past = hidden.new_zeros(1, hidden.shape[1], KERNEL - 1)
            hidden = torch.cat([past, hidden], -1)
            self.past[index] = hidden[..., -(KERNEL - 1) :]
            hidden = F.gelu(conv(hidden))
        return hidden.transpose(1, 2)


class _Layers:
    """Encoder layers over blocks of frames, with the keys and values of earlier blocks.

    Args:
        positions: numbers of the layers, from 1.
        block: frames that see each other; None: every layer is causal, and frames never wait.
    """

    def __init__(self, encoder: TokenizerEncoder, positions: range, block: int | None) -> None:
        self.encoder, self.positions, self.block = encoder, positions, block
        self.waiting: Tensor | None = None
        self.past: dict[int, tuple[Tensor, Tensor]] = {}

    def push(self, hidden: Tensor, final: bool) -> Tensor:
        """(1, n, D) -> (1, m, D): the frames of the blocks that are complete now."""
        if not self.positions:
            return hidden
        if self.block is None:
            return self._encode(hidden) if hidden.shape[1] else hidden
        if self.waiting is not None:
            hidden = torch.cat([self.waiting, hidden], 1)
        done = [hidden[:, :0]]
        while hidden.shape[1] >= self.block or (final and hidden.shape[1]):
            block, hidden = hidden[:, : self.block], hidden[:, self.block :]
            done.append(self._encode(block))
        self.waiting = hidden
        return torch.cat(done, 1)

    def _encode(self, hidden: Tensor) -> Tensor:
        config, source = self.encoder.config, None
        # SAE's source may be the state that enters these layers (it is pooled, and before layer 1).
        if config.encoder_residual_source_position == self.positions.start - 1:
            source = hidden
        for position in self.positions:
            hidden = self._layer(position, hidden)
            if position == config.encoder_residual_source_position:
                source = hidden
            if position == config.encoder_residual_target_position and source is not None:
                hidden, _ = fusion.fuse(
                    hidden,
                    source,
                    self.encoder.residual_adapter if config.use_residual_adapter else None,
                    self.encoder.residual_gate if config.use_residual_gate else None,
                    self.encoder.residual_output_norm,
                )
        return hidden

    def _layer(self, position: int, hidden: Tensor) -> Tensor:
        """One of transformers' layers (pre-norm) on new frames, given the earlier ones."""
        layer = self.encoder.layers[position - 1]
        attention, normed = layer.self_attn, layer.self_attn_layer_norm(hidden)

        def heads(states: Tensor) -> Tensor:
            return states.view(1, -1, attention.num_heads, attention.head_dim).transpose(1, 2)

        query = heads(attention.q_proj(normed) * attention.scaling)
        key, value = heads(attention.k_proj(normed)), heads(attention.v_proj(normed))
        if position in self.past:
            key = torch.cat([self.past[position][0], key], 2)
            value = torch.cat([self.past[position][1], value], 2)
        self.past[position] = (key, value)
        mask = None
        if self.encoder.config.looks_back(position):
            new, all_ = query.shape[2], key.shape[2]
            mask = torch.ones(new, all_, dtype=torch.bool, device=query.device)
            mask = mask.tril(all_ - new)
        mixed = F.scaled_dot_product_attention(query, key, value, mask, scale=1.0)
        mixed = mixed.transpose(1, 2).reshape(1, hidden.shape[1], -1)
        hidden = hidden + attention.out_proj(mixed)
        inner = layer.activation_fn(layer.fc1(layer.final_layer_norm(hidden)))
        return hidden + layer.fc2(inner)
