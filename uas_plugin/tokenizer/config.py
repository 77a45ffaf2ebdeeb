"""Configuration of the Whisper-style tokenizers: UniAudio-Token, StableToken, GLM-4-Voice."""

from __future__ import annotations

from typing import Any

from transformers import WhisperConfig

from uas_plugin.errors import UASError

POOLING = ("avg", "max")
QUANTIZERS = ("vq", "lfq")
CONSENSUS = ("code", "paper")


class TokenizerConfig(WhisperConfig):
    """Whisper's configuration plus the switches of the released tokenizers, under their names.

    Positions count encoder layers from 1: "position p" acts after layer p; pooling position 0 acts
    before the first layer. At one position the order is: pool, keep the residual source, fuse,
    quantize. The paper's order of SAE before the VQ needs a target at or below the quantizer;
    the shipped configuration (source 3, target 32, quantizer 16) fuses above it, on the way to the
    text decoder only.

    Args:
        pooling_kernel_size: frames of 50 Hz merged into one token frame (None: no pooling).
        pooling_type: ``"avg"`` or ``"max"``.
        pooling_position: where they are merged.
        encoder_causal_convolution: convolutions look back only (padding 2 on the left, 0 right).
        encoder_causal_attention: all layers look back only.
        quantize_causal_encoder: the layers up to the quantizer look back only.
        quantize_causal_block_size: frames of 50 Hz in a block; a frame sees its own block and all
            before it (None: no blocks).
        quantizer_type: ``"vq"`` (nearest codeword) or ``"lfq"`` (StableToken's voters).
        quantize_position: layer after which the quantizer acts.
        quantize_vocab_size: number of codes.
        quantize_enabled: False in stage 1 (alignment), where states pass unquantized.
        quantize_encoder_only: keep only the layers up to the quantizer (the exported tokenizer).
        quantize_ema_decay: decay of the codebook's moving averages; None: learned by gradient.
        quantize_loss_scale, quantize_commit_coefficient: VQ: weight of the quantization loss, and
            of the commitment loss within it; LFQ: the coefficient weighs the commitment loss.
        use_commit_loss: False leaves the quantizer's losses out of training.
        quantize_restart_interval: train steps between checks for dead codes (None: never).
        quantize_restart_threshold: a code is dead below this share of the uniform count; None for
            the paper's rule, a moving count below ``decay ** interval``.
        num_voters, num_clean_input: LFQ: projections that vote; how many hear the clean audio.
        use_projection_bias: LFQ: biases of the projections.
        layernorm_after_quantize: LFQ: the final norm acts (VQ: it always does, in training).
        sample_minimization_weight, batch_maximization_weight: LFQ: the entropy loss is
            ``sample * (H_sample - batch * H_batch)``; the first weight multiplies both, as in the
            release.
        use_codebook_ce_loss: LFQ: whether the entropy loss is trained.
        consensus_weight: LFQ: weight of the consensus loss.
        consensus_scaling: ``"code"`` (sum over voters of a mean over bits, the release) or
            ``"paper"`` (mean over voters of a sum over bits, Eq. 4; bits / voters times larger).
        encoder_residual_source_position, encoder_residual_target_position: SAE (None: off).
        use_residual_adapter, use_residual_gate: parts of SAE.
        isolate_padding: padding never reaches valid frames, so that a clip gives the same states
            alone and in any batch. False lets it leak through the convolutions, as the references
            do (their ids depend on the batch).
    """

    model_type = "uas_tokenizer"

    def __init__(
        self,
        pooling_kernel_size: int | None = 2,
        pooling_type: str = "avg",
        pooling_position: int | None = 0,
        encoder_causal_convolution: bool = False,
        encoder_causal_attention: bool = False,
        quantize_causal_encoder: bool = False,
        quantize_causal_block_size: int | None = None,
        quantizer_type: str = "vq",
        quantize_vocab_size: int = 8192,
        quantize_position: int = 16,
        quantize_enabled: bool = True,
        quantize_encoder_only: bool = False,
        quantize_ema_decay: float | None = 0.95,
        quantize_loss_scale: float = 10.0,
        quantize_commit_coefficient: float = 0.25,
        use_commit_loss: bool = True,
        quantize_restart_interval: int | None = 10,
        quantize_restart_threshold: float | None = None,
        num_voters: int = 5,
        num_clean_input: int = 3,
        use_projection_bias: bool = True,
        layernorm_after_quantize: bool = True,
        sample_minimization_weight: float = 1.0,
        batch_maximization_weight: float = 1.0,
        use_codebook_ce_loss: bool = True,
        consensus_weight: float = 0.25,
        consensus_scaling: str = "code",
        encoder_residual_source_position: int | None = None,
        encoder_residual_target_position: int | None = None,
        use_residual_adapter: bool = True,
        use_residual_gate: bool = True,
        isolate_padding: bool = True,
        **kwargs: Any,
    ) -> None:
        self.pooling_kernel_size = pooling_kernel_size
        self.pooling_type = pooling_type
        self.pooling_position = pooling_position
        self.encoder_causal_convolution = encoder_causal_convolution
        self.encoder_causal_attention = encoder_causal_attention
        self.quantize_causal_encoder = quantize_causal_encoder
        self.quantize_causal_block_size = quantize_causal_block_size
        self.quantizer_type = quantizer_type
        self.quantize_vocab_size = quantize_vocab_size
        self.quantize_position = quantize_position
        self.quantize_enabled = quantize_enabled
        self.quantize_encoder_only = quantize_encoder_only
        self.quantize_ema_decay = quantize_ema_decay
        self.quantize_loss_scale = quantize_loss_scale
        self.quantize_commit_coefficient = quantize_commit_coefficient
        self.use_commit_loss = use_commit_loss
        self.quantize_restart_interval = quantize_restart_interval
        self.quantize_restart_threshold = quantize_restart_threshold
        self.num_voters = num_voters
        self.num_clean_input = num_clean_input
        self.use_projection_bias = use_projection_bias
        self.layernorm_after_quantize = layernorm_after_quantize
        self.sample_minimization_weight = sample_minimization_weight
        self.batch_maximization_weight = batch_maximization_weight
        self.use_codebook_ce_loss = use_codebook_ce_loss
        self.consensus_weight = consensus_weight
        self.consensus_scaling = consensus_scaling
        self.encoder_residual_source_position = encoder_residual_source_position
        self.encoder_residual_target_position = encoder_residual_target_position
        self.use_residual_adapter = use_residual_adapter
        self.use_residual_gate = use_residual_gate
        self.isolate_padding = isolate_padding
        super().__init__(**kwargs)

    def check(self) -> None:
        """Raise UASError for settings that contradict each other."""
        _one_of("pooling_type", self.pooling_type, POOLING)
        _one_of("quantizer_type", self.quantizer_type, QUANTIZERS)
        _one_of("consensus_scaling", self.consensus_scaling, CONSENSUS)
        if not 1 <= self.quantize_position <= self.encoder_layers:
            raise UASError(
                f"quantize_position {self.quantize_position} is not a layer of "
                f"1..{self.encoder_layers}"
            )
        if self.pool > 1 and (self.pooling_position or 0) > self.quantize_position:
            raise UASError(
                f"pooling_position {self.pooling_position} lies above quantize_position "
                f"{self.quantize_position}: tokens would not be pooled"
            )
        block = self.quantize_causal_block_size
        if block is not None and block < self.pool:
            raise UASError(
                f"quantize_causal_block_size {block} is below pooling_kernel_size {self.pool}"
            )
        size = self.quantize_vocab_size
        if not isinstance(size, int) or size < 2:
            raise UASError(f"quantize_vocab_size must be a number of codes, not {size!r}")
        if self.quantizer_type == "lfq":
            if size & (size - 1):
                raise UASError(f"quantize_vocab_size {size} is no power of two, as LFQ needs")
            if self.num_voters < 1:
                raise UASError(f"num_voters must be at least 1, not {self.num_voters}")
        self._check_residual()

    def _check_residual(self) -> None:
        source = self.encoder_residual_source_position
        target = self.encoder_residual_target_position
        if (source is None) != (target is None):
            raise UASError("SAE needs both encoder_residual source and target positions, or none")
        if source is not None and target is not None and source > target:
            raise UASError(f"SAE source layer {source} lies above its target layer {target}")

    @property
    def has_residual(self) -> bool:
        """Whether the SAE modules exist."""
        return self.encoder_residual_source_position is not None

    @property
    def pool(self) -> int:
        """Frames of 50 Hz per token frame (1: no pooling)."""
        if self.pooling_kernel_size is None or self.pooling_position is None:
            return 1
        # StableToken's release pools after a layer only: position 0 never comes.
        if self.quantizer_type == "lfq" and self.pooling_position == 0:
            return 1
        return self.pooling_kernel_size

    @property
    def padding_multiple(self) -> int:
        """Mel frames to whose multiple the references pad a clip; it decides the last ids."""
        return 2 * (self.pooling_kernel_size or 1)

    @property
    def kept_layers(self) -> int:
        """Layers of the exported encoder: those up to the quantizer."""
        return min(self.quantize_position, self.encoder_layers)

    def looks_back(self, layer: int) -> bool:
        """Whether layer ``layer`` (from 1) is causal."""
        return self.encoder_causal_attention or (
            self.quantize_causal_encoder and layer <= self.quantize_position
        )


def _one_of(name: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UASError(f"{name} must be {' or '.join(known)}, not {value!r}")
