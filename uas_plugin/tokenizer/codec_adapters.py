"""The codecs of transformers under one interface: one clip in, (codebooks, frames) codes out.

The models differ in the names of their settings, in how the number of codebooks is chosen, and in
the shapes that they return. Everything here follows from a model's config and its own methods.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from uas_plugin.errors import UASError


class CodecAdapter:
    """A codec with its feature extractor.

    Args:
        model: in eval mode.
        extractor: pads a clip as the model wants it, and computes its features.
    """

    model_name: ClassVar[str]
    extractor_name: ClassVar[str]

    def __init__(self, model: nn.Module, extractor: Any) -> None:
        self.model, self.extractor, self.config = model, extractor, model.config

    @property
    def sampling_rate(self) -> int:
        """Hz of the audio that is encoded."""
        return self.config.sampling_rate

    @property
    def output_rate(self) -> int:
        """Hz of the audio that is decoded."""
        return self.sampling_rate

    @property
    def hop_length(self) -> int:
        """Samples at ``sampling_rate`` from one frame to the next."""
        raise NotImplementedError

    @property
    def codebook_size(self) -> int:
        """Codes of each codebook."""
        return self.config.codebook_size

    @property
    def max_codebooks(self) -> int:
        """Codebooks at the highest bandwidth."""
        raise NotImplementedError

    @property
    def default_codebooks(self) -> int:
        """Codebooks that the model gives when it is not told a bandwidth or number."""
        return self.max_codebooks

    def check(self) -> None:
        """Make sure that integers alone stand for the audio, and that it is mono.

        Raises:
            UASError: the codec needs more than codes to decode, or two channels.
        """
        for channels in (getattr(self.config, "audio_channels", 1), self._extractor_channels()):
            if channels != 1:
                raise UASError(f"the codec is for {channels} channels; only mono is read here")

    def _extractor_channels(self) -> int:
        return self.extractor.feature_size

    def inputs(self, waveform: np.ndarray) -> Mapping[str, Tensor]:
        """What the extractor makes of a clip, (samples,) float32 at ``sampling_rate``."""
        values = self.extractor(waveform, sampling_rate=self.sampling_rate, return_tensors="pt")
        weight = next(self.model.parameters())
        return {
            name: value.to(weight.device, weight.dtype if value.is_floating_point() else None)
            for name, value in values.items()
        }

    def encode(self, waveform: np.ndarray, num_codebooks: int) -> Tensor:
        """(codebooks, T) int codes of a clip of at least one sample."""
        raise NotImplementedError

    def decode(self, codes: Tensor) -> Tensor:
        """(samples,) at ``output_rate`` of (codebooks, T) int64 codes."""
        return self.model.decode(audio_codes=codes.unsqueeze(0)).audio_values.reshape(-1)


class DacAdapter(CodecAdapter):
    """DAC (Kumar et al., 2023)."""

    model_name, extractor_name = "DacModel", "DacFeatureExtractor"

    @property
    def hop_length(self) -> int:
        return math.prod(self.config.downsampling_ratios)

    @property
    def max_codebooks(self) -> int:
        return self.config.n_codebooks

    def encode(self, waveform: np.ndarray, num_codebooks: int) -> Tensor:
        values = self.inputs(waveform)["input_values"]
        return self.model.encode(values, n_quantizers=num_codebooks).audio_codes[0]


class MimiAdapter(CodecAdapter):
    """Mimi (Défossez et al., 2024)."""

    model_name, extractor_name = "MimiModel", "EncodecFeatureExtractor"

    @property
    def hop_length(self) -> int:
        return math.prod(self.config.upsampling_ratios) * self.config.latent_stride

    @property
    def max_codebooks(self) -> int:
        return self.config.num_quantizers

    def check(self) -> None:
        super().check()
        if self.model.encoder is None or self.model.decoder is None:
            raise UASError("the codec lacks its encoder or its decoder; save the whole model")

    def encode(self, waveform: np.ndarray, num_codebooks: int) -> Tensor:
        # The model refuses fewer than its semantic ones; their first are what fewer would be.
        asked = max(num_codebooks, self.config.num_semantic_quantizers)
        values = self.inputs(waveform)["input_values"]
        return self.model.encode(values, num_quantizers=asked).audio_codes[0, :num_codebooks]


class _BandwidthAdapter(CodecAdapter):
    """Residual quantizer whose number of codebooks is asked for as a bandwidth in kbit/s."""

    def _codebooks(self, bandwidth: float) -> int:
        return self.model.quantizer.get_num_quantizers_for_bandwidth(bandwidth)

    @property
    def max_codebooks(self) -> int:
        most = max(map(self._codebooks, self.config.target_bandwidths))
        return min(most, self.config.num_quantizers)

    def bandwidth(self, num_codebooks: int) -> float:
        """The lowest bandwidth with at least so many codebooks.

        Each codebook codes what those before it left over: the first ones are the same at every
        bandwidth.
        """
        fitting = [b for b in self.config.target_bandwidths if self._codebooks(b) >= num_codebooks]
        return min(fitting)


class EncodecAdapter(_BandwidthAdapter):
    """EnCodec (Défossez et al., 2022), without the chunks and scales of its stereo model."""

    model_name, extractor_name = "EncodecModel", "EncodecFeatureExtractor"

    @property
    def hop_length(self) -> int:
        return self.config.hop_length

    @property
    def default_codebooks(self) -> int:
        return min(self._codebooks(self.config.target_bandwidths[0]), self.max_codebooks)

    def check(self) -> None:
        super().check()
        if self.config.normalize or self.config.chunk_length_s is not None:
            raise UASError(
                "the codec scales or overlaps chunks, so that its codes alone are not enough to "
                "decode; take a model with normalize false and chunk_length_s null (24 kHz)"
            )

    def encode(self, waveform: np.ndarray, num_codebooks: int) -> Tensor:
        inputs = self.inputs(waveform)
        bandwidth = self.bandwidth(num_codebooks)
        codes = self.model.encode(inputs["input_values"], inputs["padding_mask"], bandwidth)
        return codes.audio_codes[0, 0, :num_codebooks]

    def decode(self, codes: Tensor) -> Tensor:
        return self.model.decode(codes[None, None], [None]).audio_values.reshape(-1)


class XcodecAdapter(_BandwidthAdapter):
    """X-Codec (Ye et al., 2024), and Higgs Audio's tokenizer, which is built on it."""

    model_name, extractor_name = "XcodecModel", "DacFeatureExtractor"

    @property
    def sampling_rate(self) -> int:
        return self.config.sample_rate

    @property
    def hop_length(self) -> int:
        return self.config.hop_length

    @property
    def default_codebooks(self) -> int:
        return min(self._codebooks(self.config.target_bandwidths[-1]), self.max_codebooks)

    def encode(self, waveform: np.ndarray, num_codebooks: int) -> Tensor:
        values = self.inputs(waveform)["input_values"]
        codes = self.model.encode(values, bandwidth=self.bandwidth(num_codebooks)).audio_codes
        return codes[0, :num_codebooks]


class HiggsAdapter(XcodecAdapter):
    """Higgs Audio v2's tokenizer."""

    model_name = "HiggsAudioV2TokenizerModel"


class Xcodec2Adapter(CodecAdapter):
    """X-Codec 2 (Ye et al., 2025): one codebook of finite scalar quantization.

    The extractor appends one sample before it fills the last frame, so a clip of whole frames gets
    one frame more.
    """

    model_name, extractor_name = "Xcodec2Model", "Xcodec2FeatureExtractor"

    @property
    def hop_length(self) -> int:
        return math.prod(self.config.downsampling_ratios)

    @property
    def codebook_size(self) -> int:
        return math.prod(self.config.quantization_levels)

    @property
    def max_codebooks(self) -> int:
        return 1

    def _extractor_channels(self) -> int:
        return 1  # its feature_size counts mel bins

    def encode(self, waveform: np.ndarray, num_codebooks: int) -> Tensor:
        return self.model.encode(**self.inputs(waveform)).audio_codes[0]


class NeuCodecAdapter(Xcodec2Adapter):
    """NeuCodec (Julian et al., 2025): X-Codec 2 with a decoder of another rate."""

    model_name, extractor_name = "NeuCodecModel", "NeuCodecFeatureExtractor"

    @property
    def sampling_rate(self) -> int:
        return self.config.input_sampling_rate

    @property
    def output_rate(self) -> int:
        return self.config.output_sampling_rate

    def inputs(self, waveform: np.ndarray) -> Mapping[str, Tensor]:
        # A frame is two mel frames; the extractor fails on a clip that does not fill them.
        extractor = self.extractor
        least = extractor.frame_length + (extractor.stride - 1) * extractor.frame_shift
        return super().inputs(np.pad(waveform, (0, max(0, least - len(waveform)))))


#: model_type in config.json -> adapter
ADAPTERS: dict[str, type[CodecAdapter]] = {
    "dac": DacAdapter,
    "encodec": EncodecAdapter,
    "higgs_audio_v2_tokenizer": HiggsAdapter,
    "mimi": MimiAdapter,
    "neucodec": NeuCodecAdapter,
    "xcodec": XcodecAdapter,
    "xcodec2": Xcodec2Adapter,
}


def forget_derived(model: nn.Module) -> None:
    """Drop tensors that a model derived and keeps outside its state: ``.to`` does not move them."""
    for module in model.modules():
        if getattr(module, "_embed", None) is not None:  # Mimi's codebooks
            module._embed = None
