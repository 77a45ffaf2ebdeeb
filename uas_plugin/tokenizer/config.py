"""Configuration of the Whisper-style tokenizers (UniAudio-Token and its family)."""

from __future__ import annotations

from typing import Any

from transformers import WhisperConfig

from uas_plugin.errors import UASError


class TokenizerConfig(WhisperConfig):
    """Whisper's configuration plus the switches of the released tokenizers.

    Positions count encoder layers from 1: "position p" acts after layer p; pooling position 0 acts
    before the first layer. At one position the order is: pool, keep the residual source, fuse,
    quantize (UniAudio-Token code; the paper's order of SAE before VQ needs target <= quantize).

    Args:
        pooling_kernel_size: frames of 50 Hz merged into one token frame (None: no pooling).
        pooling_type: ``"avg"`` or ``"max"``.
        quantize_position: layer after which the codebook acts.
        quantize_vocab_size: number of codes.
        quantize_ema_decay: decay of the codebook's moving averages.
        quantize_loss_scale, quantize_commit_coefficient: their product weighs the commitment loss.
        quantize_restart_interval: train steps between checks for dead codes.
        quantize_restart_threshold: a code is dead below this share of the uniform count; None for
            the paper's rule, a moving count below ``decay ** interval``.
        quantize_enabled: False in stage 1 (alignment), where states pass unquantized.
        quantize_encoder_only: keep only the layers up to the quantizer (the exported tokenizer).
        encoder_residual_source_position, encoder_residual_target_position: SAE (None: off).
    """

    model_type = "uas_whisper_vq"

    def __init__(
        self,
        pooling_kernel_size: int | None = 2,
        pooling_type: str = "avg",
        pooling_position: int = 0,
        quantize_vocab_size: int = 8192,
        quantize_position: int = 16,
        quantize_ema_decay: float = 0.95,
        quantize_loss_scale: float = 10.0,
        quantize_commit_coefficient: float = 0.25,
        quantize_restart_interval: int = 10,
        quantize_restart_threshold: float | None = None,
        quantize_enabled: bool = True,
        quantize_encoder_only: bool = False,
        encoder_residual_source_position: int | None = None,
        encoder_residual_target_position: int | None = None,
        use_residual_adapter: bool = True,
        use_residual_gate: bool = True,
        **kwargs: Any,
    ) -> None:
        self.pooling_kernel_size = pooling_kernel_size
        self.pooling_type = pooling_type
        self.pooling_position = pooling_position
        self.quantize_vocab_size = quantize_vocab_size
        self.quantize_position = quantize_position
        self.quantize_ema_decay = quantize_ema_decay
        self.quantize_loss_scale = quantize_loss_scale
        self.quantize_commit_coefficient = quantize_commit_coefficient
        self.quantize_restart_interval = quantize_restart_interval
        self.quantize_restart_threshold = quantize_restart_threshold
        self.quantize_enabled = quantize_enabled
        self.quantize_encoder_only = quantize_encoder_only
        self.encoder_residual_source_position = encoder_residual_source_position
        self.encoder_residual_target_position = encoder_residual_target_position
        self.use_residual_adapter = use_residual_adapter
        self.use_residual_gate = use_residual_gate
        super().__init__(**kwargs)

    def check(self) -> None:
        """Raise UASError for settings that contradict each other."""
        if self.pooling_type not in ("avg", "max"):
            raise UASError(f"pooling_type must be avg or max, not {self.pooling_type!r}")
        if not 1 <= self.quantize_position <= self.encoder_layers:
            raise UASError(
                f"quantize_position {self.quantize_position} is not a layer of "
                f"1..{self.encoder_layers}"
            )
        source, target = (
            self.encoder_residual_source_position,
            self.encoder_residual_target_position,
        )
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
        return self.pooling_kernel_size or 1

    @property
    def kept_layers(self) -> int:
        """Layers of the exported encoder: those up to the quantizer."""
        return min(self.quantize_position, self.encoder_layers)
