"""The Whisper-style encoder with pooling, SAE fusion and a quantizer inside.

Shapes: ``B`` batch, ``M`` mel bins, ``F`` mel frames (100 Hz), ``T`` token frames, ``D`` width,
``K`` codebook size. Layers are transformers' ``WhisperEncoderLayer``; parameter names are those of
the released checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel
from transformers.models.whisper.modeling_whisper import (
    WhisperEncoderLayer,
    WhisperPreTrainedModel,
    sinusoids,
)

from uas_plugin.errors import UASError
from uas_plugin.tokenizer import fusion, quantizer
from uas_plugin.tokenizer.config import TokenizerConfig
from uas_plugin.tokenizer.lfq import LFQOutput, VotingLFQ
from uas_plugin.tokenizer.masks import LayerMasks, valid_frames

FRAME_STRIDE = 2  # the second convolution halves the 100 Hz mel frames
KERNEL = 3


@dataclass
class EncoderOutput:
    """What the encoder returns.

    Attributes:
        last_hidden_state: (B, T, D) output states.
        mask: (B, T) bool, true for valid token frames.
        token_ids: (B, T) int64 codes, or None where no quantizer acted.
        pre_quant: (B, T, D) states that entered the quantizer, or None.
        losses: in training, name -> weighted scalar to add to the loss of the text.
        stats: in training, name -> scalar to log.
        lfq: what the voting quantizer returned, or None.
        residual_source: (B, T, D) shallow states of SAE, kept for a target above the quantizer.
        hidden_states: the states that entered each layer and the output, where asked for.
    """

    last_hidden_state: Tensor
    mask: Tensor
    token_ids: Tensor | None = None
    pre_quant: Tensor | None = None
    losses: dict[str, Tensor] = field(default_factory=dict)
    stats: dict[str, Tensor] = field(default_factory=dict)
    lfq: LFQOutput | None = None
    residual_source: Tensor | None = None
    hidden_states: list[Tensor] | None = None


class TokenizerEncoder(WhisperPreTrainedModel):
    """Log-mel features to token ids, and on to the states that the text decoder reads.

    With ``isolate_padding`` (the default) padding cannot reach valid frames: it is zeroed before
    each convolution and masked in attention, so ids do not depend on the other items of a batch
    (they equal the references' at batch size 1).
    """

    config_class = TokenizerConfig
    main_input_name = "input_features"
    # Buffers that one of the releases has and another, or this class, has not.
    _keys_to_ignore_on_load_unexpected = [r"codebook_used"]
    _keys_to_ignore_on_load_missing = [r"quantize_updates", r"codebook_used"]

    def __init__(self, config: TokenizerConfig) -> None:
        config.check()
        super().__init__(config)
        width = config.d_model
        layers = config.kept_layers if config.quantize_encoder_only else config.encoder_layers
        # Causal convolutions are padded in _convolve: two frames on the left.
        padding = 0 if config.encoder_causal_convolution else 1
        self.conv1 = nn.Conv1d(config.num_mel_bins, width, KERNEL, padding=padding)
        self.conv2 = nn.Conv1d(width, width, KERNEL, stride=FRAME_STRIDE, padding=padding)
        self.embed_positions = nn.Embedding(config.max_source_positions, width)
        self.embed_positions.requires_grad_(False)
        self.layers = nn.ModuleList([WhisperEncoderLayer(config) for _ in range(layers)])
        # StableToken's encoder-only checkpoints have the final norm, though it never acts there.
        if config.quantizer_type == "lfq" or not config.quantize_encoder_only:
            self.layer_norm = nn.LayerNorm(width)
        if config.has_residual:
            self.residual_adapter = fusion.build_adapter(width)
            self.residual_gate = fusion.build_gate(width)
            self.residual_output_norm = nn.LayerNorm(width)
        self._init_quantizer(config)
        self.post_init()

    def _init_quantizer(self, config: TokenizerConfig) -> None:
        size, width = config.quantize_vocab_size, config.d_model
        positions = config.max_source_positions
        if config.quantizer_type == "lfq":
            self.quantizer = VotingLFQ(
                width,
                size,
                config.num_voters,
                config.num_clean_input,
                config.use_projection_bias,
                consensus_scaling=config.consensus_scaling,
            )
        else:
            positions = -(-positions // config.pool)
            self.codebook = nn.Embedding(size, width)
            if config.quantize_ema_decay is not None:
                self.codebook.requires_grad_(False)
                self.register_buffer("ema_count", torch.ones(size))
                self.register_buffer("ema_weight", torch.zeros(size, width))
                # Kept in the checkpoint, so that a resumed training restarts codes at the same
                # steps and from the same frames.
                self.register_buffer("quantize_updates", torch.zeros((), dtype=torch.long))
        self.register_buffer("codebook_used", torch.zeros(4 * size))
        self.embed_positions2 = nn.Embedding(positions, width)

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self:
            with torch.no_grad():
                self.embed_positions.weight.copy_(sinusoids(*self.embed_positions.weight.shape))
                if hasattr(self, "ema_weight"):
                    self.ema_weight.copy_(self.codebook.weight)

    @property
    def code_vectors(self) -> Tensor:
        """(K, D) what the layers above the quantizer read for each id."""
        if self.config.quantizer_type == "lfq":
            ids = torch.arange(self.config.quantize_vocab_size, device=self.conv1.weight.device)
            return self.quantizer.ids_to_states(ids)
        return self.codebook.weight

    def forward(
        self,
        input_features: Tensor | None = None,
        lengths: Tensor | None = None,
        *,
        attention_mask: Tensor | None = None,
        noisy_features: Tensor | None = None,
        token_ids: Tensor | None = None,
        token_lengths: Tensor | None = None,
        output_hidden_states: bool = False,
    ) -> EncoderOutput:
        """Encode features, or continue from given token ids.

        Args:
            input_features: (B, M, F) log-mel.
            lengths: (B,) valid mel frames; or ``attention_mask``: (B, F), ones on the left. With
                neither, every frame is valid.
            noisy_features: (B, M, F) of a noisy view, heard by some voters of LFQ in training.
            token_ids: (B, T) int64. Instead of features: only the layers above the quantizer run;
                token_lengths: (B,) valid ones. With features: they take the place of the search.
            output_hidden_states: also return the states that entered each layer.
        """
        if input_features is None:
            assert token_ids is not None
            return self._from_tokens(token_ids, token_lengths)
        frames = input_features.shape[-1]
        if attention_mask is not None:
            lengths = attention_mask.sum(1)
        elif lengths is None:
            lengths = torch.full((len(input_features),), frames, device=input_features.device)
        output = EncoderOutput(
            last_hidden_state=input_features,
            mask=valid_frames(lengths, frames, FRAME_STRIDE * self.config.pool),
            hidden_states=[] if output_hidden_states else None,
        )
        noisy = None
        if noisy_features is not None and self.training and self.config.quantizer_type == "lfq":
            kept, output.hidden_states = output.hidden_states, None
            noisy = self._lower(noisy_features, lengths, output)
            output.hidden_states = kept
        hidden = self._lower(input_features, lengths, output)
        if token_ids is None:
            hidden = self._quantize(hidden, noisy, output)
        else:
            output.token_ids = token_ids
            hidden = self._states_of(token_ids)
        return self._upper(hidden, output)

    def _states_of(self, token_ids: Tensor) -> Tensor:
        """(B, T) ids -> (B, T, D) what the layers above the quantizer read."""
        if self.config.quantizer_type == "lfq":
            hidden = self.quantizer.ids_to_states(token_ids)
        else:
            hidden = quantizer.lookup(token_ids, self.codebook.weight)
        return hidden + self.embed_positions2.weight[: token_ids.shape[1]]

    def _from_tokens(self, token_ids: Tensor, token_lengths: Tensor | None) -> EncoderOutput:
        count = token_ids.shape[1]
        if token_lengths is None:
            token_lengths = torch.full((len(token_ids),), count, device=token_ids.device)
        hidden = self._states_of(token_ids)
        mask = valid_frames(token_lengths, count, 1)
        output = EncoderOutput(last_hidden_state=hidden, mask=mask, token_ids=token_ids)
        return self._upper(hidden, output)

    # --- up to the quantizer ----------------------------------------------------------------

    def _convolve(self, features: Tensor, lengths: Tensor) -> Tensor:
        """(B, M, F) -> (B, F / 2, D); with isolation each item is as if it were alone."""
        config = self.config
        if features.shape[-1] % FRAME_STRIDE:
            raise UASError(f"{features.shape[-1]} mel frames: an even number is needed")
        keep = None
        if config.isolate_padding:
            # What the references pad a lone item to: those frames hold its own floor.
            multiple = config.padding_multiple
            own = -(-lengths // multiple) * multiple
            keep = torch.arange(features.shape[-1], device=lengths.device) < own.unsqueeze(1)
            keep = keep.unsqueeze(1).to(features.dtype)
            features = features * keep
        left = KERNEL - 1 if config.encoder_causal_convolution else 0
        hidden = F.gelu(self.conv1(F.pad(features, (left, 0))))
        if keep is not None:
            hidden = hidden * keep
        return F.gelu(self.conv2(F.pad(hidden, (left, 0)))).transpose(1, 2)

    def _pool(self, hidden: Tensor) -> Tensor:
        """Merge frames; a last group that is not full is filled with zeros (as the references)."""
        size = self.config.pool
        hidden = F.pad(hidden, (0, 0, 0, -hidden.shape[1] % size)).transpose(1, 2)
        pooling = F.avg_pool1d if self.config.pooling_type == "avg" else F.max_pool1d
        return pooling(hidden, size).transpose(1, 2)

    def _masks(self, valid: Tensor, pooled: int, dtype: torch.dtype) -> LayerMasks:
        block = self.config.quantize_causal_block_size
        return LayerMasks(valid, None if block is None else block // pooled, dtype)

    def _layer(self, position: int, hidden: Tensor, masks: LayerMasks) -> Tensor:
        return self.layers[position - 1](hidden, masks.of(self.config.looks_back(position)))

    def _lower(self, features: Tensor, lengths: Tensor, output: EncoderOutput) -> Tensor:
        """(B, T, D) states that enter the quantizer."""
        config = self.config
        hidden = self._convolve(features, lengths)
        hidden = hidden + self.embed_positions.weight[: hidden.shape[1]]
        hidden = F.dropout(hidden, p=config.dropout, training=self.training)
        valid = valid_frames(lengths, features.shape[-1], FRAME_STRIDE)
        masks = self._masks(valid, 1, hidden.dtype)
        for position in range(config.kept_layers + 1):
            if position > 0:
                self._note(hidden, output)
                hidden = self._layer(position, hidden, masks)
            if position == config.pooling_position and config.pool > 1:
                hidden = self._pool(hidden)
                masks = self._masks(output.mask, config.pool, hidden.dtype)
            if config.has_residual and position == config.encoder_residual_source_position:
                output.residual_source = hidden
            if config.has_residual and position == config.encoder_residual_target_position:
                hidden = self._fuse(hidden, output)
        return hidden

    @staticmethod
    def _note(hidden: Tensor, output: EncoderOutput) -> None:
        if output.hidden_states is not None:
            output.hidden_states.append(hidden)

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
        output.stats["sae_gate"] = gamma.detach()
        return hidden

    # --- the quantizer ----------------------------------------------------------------------

    def _quantize(self, hidden: Tensor, noisy: Tensor | None, output: EncoderOutput) -> Tensor:
        output.pre_quant = hidden
        if self.config.quantize_enabled:
            if self.config.quantizer_type == "lfq":
                hidden = self._vote(hidden, noisy, output)
            else:
                hidden = self._nearest(hidden, output)
            if self.training:
                self._note_used(output)
        return hidden + self.embed_positions2.weight[: hidden.shape[1]]

    def _vote(self, hidden: Tensor, noisy: Tensor | None, output: EncoderOutput) -> Tensor:
        config = self.config
        output.lfq = voted = self.quantizer(hidden, noisy, output.mask)
        output.token_ids = voted.token_ids
        if self.training:
            output.stats.update(
                consensus=voted.consensus.detach(),
                entropy_sample=voted.sample_entropy.detach(),
                entropy_batch=voted.batch_entropy.detach(),
            )
            output.losses["consensus"] = config.consensus_weight * voted.consensus
            if config.use_commit_loss:
                output.losses["commit"] = config.quantize_commit_coefficient * voted.commitment
            if config.use_codebook_ce_loss:
                output.losses["entropy"] = config.sample_minimization_weight * (
                    voted.sample_entropy - config.batch_maximization_weight * voted.batch_entropy
                )
        return voted.states

    def _nearest(self, hidden: Tensor, output: EncoderOutput) -> Tensor:
        config, weight, mask = self.config, self.codebook.weight, output.mask
        output.token_ids = quantizer.nearest_codes(hidden, weight)
        codes = quantizer.lookup(output.token_ids, weight)
        if not self.training:
            return codes.to(hidden.dtype)
        scale = config.quantize_loss_scale
        if config.use_commit_loss:
            coefficient = scale * config.quantize_commit_coefficient
            output.losses["commit"] = coefficient * quantizer.masked_mse(
                hidden, codes.detach(), mask
            )
            if not config.quantize_ema_decay:
                output.losses["codebook"] = scale * quantizer.masked_mse(
                    codes, hidden.detach(), mask
                )
        if config.quantize_ema_decay:
            restarted = self._update_codebook(hidden[mask], output.token_ids[mask])
            output.stats["restarted"] = hidden.new_tensor(float(restarted))
            share = self.ema_count / self.ema_count.sum()
            output.stats["codebook_perplexity"] = torch.exp(-(share * (share + 1e-10).log()).sum())
        return quantizer.straight_through(hidden, codes.to(hidden.dtype))

    @torch.no_grad()
    def _update_codebook(self, states: Tensor, ids: Tensor) -> int:
        config = self.config
        buffers = (self.codebook.weight, self.ema_count, self.ema_weight)
        counts = quantizer.ema_update_(*buffers, states, ids, config.quantize_ema_decay)
        self.quantize_updates += 1
        interval, update = config.quantize_restart_interval, int(self.quantize_updates)
        if interval is None or update % interval:
            return 0
        if config.quantize_restart_threshold is None:
            threshold, fresh = config.quantize_ema_decay**interval, 1.0
        else:
            fresh = float(counts.sum()) / len(counts)
            threshold = config.quantize_restart_threshold * fresh
        return quantizer.restart_dead_codes_(*buffers, states, threshold, fresh, update)

    @torch.no_grad()
    def _note_used(self, output: EncoderOutput) -> None:
        assert output.token_ids is not None
        ids = output.token_ids[output.mask]
        used = quantizer.note_used_(self.codebook_used, ids)
        output.stats["codebook_usage"] = torch.tensor(used / self.config.quantize_vocab_size)
        output.stats["batch_codes"] = torch.tensor(float(len(torch.unique(ids))))

    # --- above the quantizer ----------------------------------------------------------------

    def _upper(self, hidden: Tensor, output: EncoderOutput) -> EncoderOutput:
        """Layers above the quantizer (none in an exported tokenizer) and the final norm."""
        config = self.config
        masks = self._masks(output.mask, config.pool, hidden.dtype)
        for position in range(config.kept_layers + 1, len(self.layers) + 1):
            self._note(hidden, output)
            hidden = self._layer(position, hidden, masks)
            if config.has_residual and position == config.encoder_residual_target_position:
                hidden = self._fuse(hidden, output)
        normed = not config.quantize_encoder_only
        if config.quantizer_type == "lfq":
            normed = config.layernorm_after_quantize
        if normed:
            hidden = self.layer_norm(hidden)
        self._note(hidden, output)
        output.last_hidden_state = hidden
        return output


AutoConfig.register(TokenizerConfig.model_type, TokenizerConfig, exist_ok=True)
AutoModel.register(TokenizerConfig, TokenizerEncoder, exist_ok=True)
