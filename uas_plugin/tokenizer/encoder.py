"""The Whisper-style encoder with pooling, SAE fusion and a quantizer inside.

Shapes: ``B`` batch, ``M`` mel bins, ``F`` mel frames (100 Hz), ``T`` token frames, ``D`` width,
``K`` codebook size. Layers are transformers' ``WhisperEncoderLayer``; parameter names are those of
the released checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.whisper.modeling_whisper import (
    WhisperEncoderLayer,
    WhisperPreTrainedModel,
    sinusoids,
)

from uas_plugin.errors import UASError
from uas_plugin.tokenizer import fusion, quantizer
from uas_plugin.tokenizer.config import TokenizerConfig

FRAME_STRIDE = 2  # the second convolution halves the 100 Hz mel frames


@dataclass
class EncoderOutput:
    """What the encoder returns.

    Attributes:
        last_hidden_state: (B, T, D) output states.
        mask: (B, T) bool, true for valid token frames.
        token_ids: (B, T) int64 codes, or None where no quantizer acted.
        pre_quant: (B, T, D) states that entered the quantizer, or None.
        commit_loss: scalar, or None outside training.
        gate_mean: mean SAE gate over valid frames, or None.
        restarted: codes restarted in this step.
        residual_source: (B, T, D) shallow states of SAE, kept for a target above the quantizer.
    """

    last_hidden_state: Tensor
    mask: Tensor
    token_ids: Tensor | None = None
    pre_quant: Tensor | None = None
    commit_loss: Tensor | None = None
    gate_mean: Tensor | None = None
    restarted: int = 0
    residual_source: Tensor | None = None


class TokenizerEncoder(WhisperPreTrainedModel):
    """Log-mel features to token ids, and on to the states that the text decoder reads.

    Unlike the reference, padding cannot reach valid frames: it is zeroed before each convolution
    and masked in attention, so ids do not depend on the other items of a batch (they equal the
    reference's at batch size 1).
    """

    config_class = TokenizerConfig
    main_input_name = "input_features"
    # Bookkeeping that released checkpoints have and this class has not, and the other way round.
    _keys_to_ignore_on_load_unexpected = [r"codebook_used"]
    _keys_to_ignore_on_load_missing = [r"quantize_updates"]

    def __init__(self, config: TokenizerConfig) -> None:
        config.check()
        super().__init__(config)
        width = config.d_model
        layers = config.kept_layers if config.quantize_encoder_only else config.encoder_layers
        self.conv1 = nn.Conv1d(config.num_mel_bins, width, kernel_size=3, padding=1)
        self.conv2 = nn.Conv1d(width, width, kernel_size=3, stride=FRAME_STRIDE, padding=1)
        self.embed_positions = nn.Embedding(config.max_source_positions, width)
        self.embed_positions.requires_grad_(False)
        self.layers = nn.ModuleList([WhisperEncoderLayer(config) for _ in range(layers)])
        if not config.quantize_encoder_only:
            self.layer_norm = nn.LayerNorm(width)
        if config.has_residual:
            self.residual_adapter = fusion.build_adapter(width)
            self.residual_gate = fusion.build_gate(width)
            self.residual_output_norm = nn.LayerNorm(width)
        self._init_codebook(config)
        self.post_init()

    def _init_codebook(self, config: TokenizerConfig) -> None:
        size, width = config.quantize_vocab_size, config.d_model
        self.codebook = nn.Embedding(size, width)
        self.codebook.requires_grad_(False)
        self.embed_positions2 = nn.Embedding(-(-config.max_source_positions // config.pool), width)
        self.register_buffer("ema_count", torch.ones(size))
        self.register_buffer("ema_weight", torch.zeros(size, width))
        # Kept in the checkpoint, so that a resumed training restarts codes at the same steps.
        self.register_buffer("quantize_updates", torch.zeros((), dtype=torch.long))

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self:
            with torch.no_grad():
                self.embed_positions.weight.copy_(sinusoids(*self.embed_positions.weight.shape))
                self.ema_weight.copy_(self.codebook.weight)

    def frame_mask(self, lengths: Tensor, frames: int) -> Tensor:
        """Valid token frames: a group is valid if its first mel frame is.

        Args:
            lengths: (B,) valid mel frames; frames: F, padded mel frames.

        Returns:
            (B, T) bool.
        """
        stride = FRAME_STRIDE * self.config.pool
        tokens = -(-frames // stride)
        starts = torch.arange(tokens, device=lengths.device) * stride
        return starts.unsqueeze(0) < lengths.unsqueeze(1)

    def _conv_frontend(self, features: Tensor, lengths: Tensor) -> Tensor:
        """(B, M, F) -> (B, F / 2, D), each item as if it were alone, padded to its own multiple."""
        stride = FRAME_STRIDE * self.config.pool
        own = -(-lengths // stride) * stride
        keep = torch.arange(features.shape[-1], device=lengths.device) < own.unsqueeze(1)
        keep = keep.unsqueeze(1).to(features.dtype)
        hidden = F.gelu(self.conv1(features * keep)) * keep
        return F.gelu(self.conv2(hidden)).transpose(1, 2)

    def _pool(self, hidden: Tensor) -> Tensor:
        size = self.config.pool
        if size == 1:
            return hidden
        hidden = F.pad(hidden, (0, 0, 0, -hidden.shape[1] % size)).transpose(1, 2)
        pooling = F.avg_pool1d if self.config.pooling_type == "avg" else F.max_pool1d
        return pooling(hidden, size).transpose(1, 2)

    @staticmethod
    def _attention_mask(valid: Tensor, dtype: torch.dtype) -> Tensor | None:
        """Additive (B, 1, 1, T) mask, or None where every frame is valid."""
        if bool(valid.all()):
            return None
        return (~valid)[:, None, None, :].to(dtype) * torch.finfo(dtype).min

    def _fuse(self, hidden: Tensor, output: EncoderOutput) -> Tensor:
        config = self.config
        if output.residual_source is None:
            raise UASError(
                "this model fuses a shallow layer above the quantizer: it cannot start from tokens"
            )
        hidden, gamma = fusion.fuse(
            hidden,
            output.residual_source,
            self.residual_adapter if config.use_residual_adapter else None,
            self.residual_gate if config.use_residual_gate else None,
            self.residual_output_norm,
        )
        if gamma.dim():
            weights = output.mask.unsqueeze(-1).to(gamma.dtype)
            gamma = (gamma * weights).sum() / (weights.sum() * gamma.shape[-1] + 1e-8)
        output.gate_mean = gamma
        return hidden

    def _quantize(self, hidden: Tensor, mask: Tensor, output: EncoderOutput) -> Tensor:
        config, weight = self.config, self.codebook.weight
        output.pre_quant = hidden
        output.token_ids = quantizer.nearest_codes(hidden, weight)
        codes = quantizer.lookup(output.token_ids, weight)
        if not self.training:
            return codes
        scale = config.quantize_loss_scale * config.quantize_commit_coefficient
        output.commit_loss = scale * quantizer.masked_mse(hidden, codes.detach(), mask)
        output.restarted = self._update_codebook(hidden[mask], output.token_ids[mask])
        return quantizer.straight_through(hidden, codes)

    @torch.no_grad()
    def _update_codebook(self, states: Tensor, ids: Tensor) -> int:
        config = self.config
        counts = quantizer.ema_update_(
            self.codebook.weight,
            self.ema_count,
            self.ema_weight,
            states,
            ids,
            config.quantize_ema_decay,
        )
        self.quantize_updates += 1
        if int(self.quantize_updates) % config.quantize_restart_interval:
            return 0
        if config.quantize_restart_threshold is None:
            threshold, fresh = config.quantize_ema_decay**config.quantize_restart_interval, 1.0
        else:
            uniform = float(counts.sum()) / len(counts)
            threshold, fresh = config.quantize_restart_threshold * uniform, uniform
        return quantizer.restart_dead_codes_(
            self.codebook.weight, self.ema_count, self.ema_weight, states, threshold, fresh
        )

    def forward(
        self,
        input_features: Tensor | None = None,
        lengths: Tensor | None = None,
        token_ids: Tensor | None = None,
        token_lengths: Tensor | None = None,
    ) -> EncoderOutput:
        """Encode features, or continue from given token ids.

        Args:
            input_features: (B, M, F) log-mel; lengths: (B,) valid mel frames.
            token_ids: (B, T) int64, used instead of features: only the layers above the quantizer
                run; token_lengths: (B,).
        """
        config = self.config
        if token_ids is not None:
            assert token_lengths is not None
            mask = torch.arange(token_ids.shape[1], device=token_ids.device)
            mask = mask.unsqueeze(0) < token_lengths.unsqueeze(1)
            output = EncoderOutput(last_hidden_state=token_ids, mask=mask, token_ids=token_ids)
            hidden = quantizer.lookup(token_ids, self.codebook.weight)
            return self._upper(hidden + self.embed_positions2.weight[: hidden.shape[1]], output)
        assert input_features is not None and lengths is not None
        hidden = self._conv_frontend(input_features, lengths)
        hidden = hidden + self.embed_positions.weight[: hidden.shape[1]]
        hidden = F.dropout(hidden, p=config.dropout, training=self.training)
        mask = self.frame_mask(lengths, input_features.shape[-1])
        output = EncoderOutput(last_hidden_state=hidden, mask=mask)
        hidden = self._lower(hidden, lengths, output)
        return self._upper(hidden, output)

    def _lower(self, hidden: Tensor, lengths: Tensor, output: EncoderOutput) -> Tensor:
        """Layers up to the quantizer; ends with the code vectors plus second positions."""
        config = self.config
        # Before pooling the frames are at 50 Hz.
        frames = torch.arange(hidden.shape[1], device=hidden.device) * FRAME_STRIDE
        attention = self._attention_mask(frames.unsqueeze(0) < lengths.unsqueeze(1), hidden.dtype)
        for position in range(config.kept_layers + 1):
            if position > 0:
                hidden = self.layers[position - 1](hidden, attention)
            if position == config.pooling_position and config.pool > 1:
                hidden = self._pool(hidden)
                attention = self._attention_mask(output.mask, hidden.dtype)
            if config.has_residual and position == config.encoder_residual_source_position:
                output.residual_source = hidden
            if config.has_residual and position == config.encoder_residual_target_position:
                hidden = self._fuse(hidden, output)
        if config.quantize_enabled:
            hidden = self._quantize(hidden, output.mask, output)
        else:
            output.pre_quant = hidden
        return hidden + self.embed_positions2.weight[: hidden.shape[1]]

    def _upper(self, hidden: Tensor, output: EncoderOutput) -> EncoderOutput:
        """Layers above the quantizer (none in an exported tokenizer) and the final norm."""
        config = self.config
        attention = self._attention_mask(output.mask, hidden.dtype)
        for position in range(config.kept_layers + 1, len(self.layers) + 1):
            hidden = self.layers[position - 1](hidden, attention)
            if config.has_residual and position == config.encoder_residual_target_position:
                hidden = self._fuse(hidden, output)
        if not config.quantize_encoder_only:
            hidden = self.layer_norm(hidden)
        output.last_hidden_state = hidden
        return output
