"""Mel -> waveform. A vocoder is a component with one method, chosen by name in ``config.json``.

Shapes: `F` mel frames, `M` mel bins, `K` spectrum bins, `S` samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch

from uas_plugin.codec.batches import each, groups
from uas_plugin.codec.hift import HiFTGenerator, hift_config
from uas_plugin.codec.mel import MelConfig, mel_filterbank
from uas_plugin.codec.source import Excitation
from uas_plugin.errors import UASError, suggest


class Vocoder(Protocol):
    """What the decoder needs of a vocoder."""

    def __call__(
        self,
        mels: Sequence[torch.Tensor],
        generators: Sequence[torch.Generator] | None = None,
    ) -> list[torch.Tensor]:
        """Waveforms (F_i * hop_length,) of the log-mels ``mels`` (F_i, M), independent of batch.

        ``generators``: one a mel, for a vocoder that draws noise.
        """
        ...

    def to(self, device: torch.device | str) -> Vocoder:
        """Compute there."""
        ...

    def settings(self) -> dict[str, Any]:
        """What `build_vocoder` needs to make it again (JSON values, with ``name``)."""
        ...


class GriffinLim:
    """Griffin-Lim with momentum (Perraudin, Balazs and Sondergaard, 2013) on a mel spectrum.

    The linear magnitude is the pseudo-inverse of the filterbank applied to the mel, clipped at 0.
    Library versions draw the first phases for a whole batch and pad by reflection, so a clip would
    depend on its neighbours. Here phases come from a generator of the clip's own, and silent frames
    around every clip keep neighbours and edges out of the result.
    """

    name = "griffin_lim"

    def __init__(
        self, mel: MelConfig, *, iterations: int = 16, momentum: float = 0.9, seed: int = 0
    ) -> None:
        if iterations < 1 or not 0 <= momentum < 1:
            raise UASError(
                f"griffin_lim: iterations >= 1 and 0 <= momentum < 1, not {iterations}, {momentum}"
            )
        self.mel = mel
        self.iterations, self.momentum, self.seed = iterations, momentum, seed
        self.inverse = torch.linalg.pinv(mel_filterbank(mel))  # (K, M)
        # A window reaches n_fft / 2 samples beyond its centre: this many silent frames absorb it.
        self.margin = -(-mel.n_fft // mel.hop_length)

    def settings(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "iterations": self.iterations,
            "momentum": self.momentum,
            "seed": self.seed,
        }

    def to(self, device: torch.device | str) -> GriffinLim:
        """Nothing to move: it computes where the mels are."""
        return self

    def __call__(
        self,
        mels: Sequence[torch.Tensor],
        generators: Sequence[torch.Generator] | None = None,
    ) -> list[torch.Tensor]:
        if not mels:
            return []
        with torch.inference_mode():
            signal = self._invert(*self._start(mels))
        hop = self.mel.hop_length
        # log_mel centres frame f on (f + 1/2) * hop; the centred transform used here on f * hop.
        first = self.margin * hop - hop // 2
        return [signal[i, first : first + len(mel) * hop] for i, mel in enumerate(mels)]

    def _start(self, mels: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Magnitudes and first phases (B, F + 2 * margin, K), zero outside each clip."""
        device = mels[0].device
        bins = self.mel.n_fft // 2 + 1
        shape = len(mels), max(len(mel) for mel in mels) + 2 * self.margin, bins
        magnitude = torch.zeros(shape, device=device)
        phase = torch.zeros(shape, device=device)
        for i, mel in enumerate(mels):
            inside = slice(self.margin, self.margin + len(mel))
            linear = torch.exp(mel.float()) @ self.inverse.T.to(device)
            magnitude[i, inside] = linear.clamp(min=0)
            generator = torch.Generator().manual_seed(self.seed)
            phase[i, inside] = torch.rand(len(mel), bins, generator=generator).to(device)
        return magnitude, phase * (2 * torch.pi)

    def _invert(self, magnitude: torch.Tensor, phase: torch.Tensor) -> torch.Tensor:
        """Signals (B, S) whose spectrum comes near ``magnitude`` (B, F, K)."""
        options: dict[str, Any] = {
            "n_fft": self.mel.n_fft,
            "hop_length": self.mel.hop_length,
            "win_length": self.mel.win_length,
            "window": torch.hann_window(self.mel.win_length, device=magnitude.device),
        }
        weight = self.momentum / (1 + self.momentum)
        spectrum = torch.polar(magnitude, phase)
        previous: torch.Tensor | None = None
        for _ in range(self.iterations):
            # Frames before bins, as the transforms hold them in memory; and real arithmetic: the
            # modulus and the quotient of complex tensors take several times as long.
            signal = torch.istft(spectrum.transpose(1, 2), **options)
            rebuilt = torch.stft(signal, return_complex=True, **options).transpose(1, 2)
            moved = rebuilt if previous is None else rebuilt - weight * previous
            parts = torch.view_as_real(moved)
            real, imaginary = parts.unbind(-1)
            power = (real * real).addcmul_(imaginary, imaginary)
            scale = magnitude * torch.rsqrt(power + 1e-16)
            spectrum = torch.view_as_complex(parts * scale[..., None])
            previous = rebuilt
        return torch.istft(spectrum.transpose(1, 2), **options)


class HiFT:
    """The HiFT network as a vocoder; clips of a batch are kept apart by masks."""

    name = "hift"

    def __init__(self, mel: MelConfig, *, seed: int = 42, **sizes: Any) -> None:
        config = hift_config(sizes)
        found = (config.in_channels, config.sampling_rate, config.hop_length)
        if found != (mel.n_mels, mel.sampling_rate, mel.hop_length):
            raise UASError(
                f"hift: mel bins, rate and hop {found} do not fit the decoder's "
                f"{(mel.n_mels, mel.sampling_rate, mel.hop_length)}"
            )
        self.network = HiFTGenerator(config).eval()
        self.seed = seed

    @classmethod
    def of(cls, network: HiFTGenerator, mel: MelConfig) -> HiFT:
        """A vocoder around a network that is there."""
        vocoder = cls(mel, **network.config.to_dict())
        vocoder.network = network.eval()
        return vocoder

    def settings(self) -> dict[str, Any]:
        return {"name": self.name, "seed": self.seed, **self.network.config.to_dict()}

    def to(self, device: torch.device | str) -> HiFT:
        """Move the network."""
        self.network.to(device)
        return self

    @torch.inference_mode()
    def __call__(
        self,
        mels: Sequence[torch.Tensor],
        generators: Sequence[torch.Generator] | None = None,
    ) -> list[torch.Tensor]:
        if generators is None:
            generators = [torch.Generator().manual_seed(self.seed) for _ in mels]
        network = self.network
        # In the order of the clips, whatever is decoded together.
        excitation = [
            Excitation.draw(network.source.count, len(mel) * network.config.hop_length, generator)
            for mel, generator in zip(mels, generators, strict=True)
        ]
        device = network.stft_window.device

        def voice(batch: Sequence[int]) -> list[torch.Tensor]:
            return self._batch([mels[i] for i in batch], [excitation[i] for i in batch])

        return each(groups([len(mel) for mel in mels], device), voice, device)

    def _batch(
        self, mels: Sequence[torch.Tensor], excitation: Sequence[Excitation]
    ) -> list[torch.Tensor]:
        network = self.network
        device = network.stft_window.device
        frames = [len(mel) for mel in mels]
        lengths = None
        if len(set(frames)) > 1:
            lengths = torch.tensor(frames, device=device)
        batch = torch.nn.utils.rnn.pad_sequence(list(mels), batch_first=True).to(device)
        batch = batch.float().transpose(1, 2)
        f0 = network.f0(batch, lengths)
        noise = torch.nn.utils.rnn.pad_sequence(
            [drawn.noise[0].T for drawn in excitation], batch_first=True
        )
        phase = torch.cat([drawn.phase for drawn in excitation])
        drawn = Excitation(phase.to(device), noise.to(device).transpose(1, 2))
        spectrum = network.spectrum(batch, network.excite(f0, drawn), lengths)
        return self._waves(spectrum, frames)

    def _waves(self, spectrum: torch.Tensor, frames: Sequence[int]) -> list[torch.Tensor]:
        """Each clip's samples; clips of one length are synthesised together."""
        config = self.network.config
        if len(set(frames)) == 1:
            return list(self.network.synthesise(spectrum))
        steps = [count * config.hop_length // config.hop_len + 1 for count in frames]
        return [
            self.network.synthesise(spectrum[i : i + 1, :, :count])[0]
            for i, count in enumerate(steps)
        ]


VOCODERS: dict[str, Any] = {GriffinLim.name: GriffinLim, HiFT.name: HiFT}


def build_vocoder(settings: Mapping[str, Any], mel: MelConfig) -> Vocoder:
    """The vocoder named by ``settings["name"]`` with the remaining settings as its options.

    A HiFT has random weights until they are loaded into its ``network``.

    Raises:
        UASError: unknown name or option.
    """
    options = dict(settings)
    name = options.pop("name", GriffinLim.name)
    if name not in VOCODERS:
        raise UASError(f"unknown vocoder '{name}'.{suggest(name, VOCODERS)}")
    try:
        return VOCODERS[name](mel, **options)
    except TypeError as error:
        raise UASError(f"vocoder {name}: {error}") from None
