"""Measurements that need no model: mel and STFT distance, F0, PESQ, STOI, SNR, SI-SDR."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from uas_plugin.evaluation.judges.measure import RATE, Item, Measure, PairMeasure

#: Range and hop of the F0 tracks: Hz, Hz, samples at 16 kHz (10 ms).
F0_MIN, F0_MAX, F0_HOP, F0_FRAME = 65.0, 600.0, 160, 1024


class MelDistance(PairMeasure):
    """Mean absolute difference of natural-log mels: 80 bins up to 8 kHz, 22.05 kHz, hop 256."""

    name = "mel"
    sampling_rate = 22_050

    def compare(self, reference: np.ndarray, made: np.ndarray) -> float | None:
        from uas_plugin.codec.mel import MelConfig, audio_log_mel
        from uas_plugin.codec.scoring import distances

        grid = MelConfig()
        mels = [audio_log_mel(wav, self.sampling_rate, grid) for wav in (made, reference)]
        return distances(*mels)[0]


class STFTDistance(PairMeasure):
    """Multi-resolution STFT distance at 16 kHz; see `uas_plugin.metrics.spectral`."""

    name = "stft"

    def compare(self, reference: np.ndarray, made: np.ndarray) -> float | None:
        from uas_plugin.metrics.spectral import multi_resolution_distance

        return multi_resolution_distance(reference, made).total


class PESQ(PairMeasure):
    """Wide-band PESQ (ITU-T P.862.2), MOS-LQO 1 to 4.64; not for audio without speech."""

    name = "pesq"
    packages = ("pesq",)
    extra = "pesq"
    shortest = 0.25

    def compare(self, reference: np.ndarray, made: np.ndarray) -> float | None:
        from pesq import PesqError, pesq

        try:
            return float(pesq(RATE, reference, made, "wb"))
        except PesqError:  # no speech was found, or too little
            return None


class STOI(PairMeasure):
    """Short-time objective intelligibility (Taal et al. 2011), of 0.4 s of speech at least."""

    name = "stoi"
    packages = ("pystoi",)
    shortest = 0.4

    def compare(self, reference: np.ndarray, made: np.ndarray) -> float | None:
        from pystoi import stoi

        with warnings.catch_warnings():
            # With too few frames it warns and gives a number that means nothing.
            warnings.simplefilter("error", RuntimeWarning)
            try:
                return float(stoi(reference, made, RATE))
            except RuntimeWarning:
                return None


class F0Track(Measure):
    """F0 by pYIN (Mauch and Dixon 2014): Hz every 10 ms, 0 where unvoiced, rounded to 0.01."""

    name = "f0"
    packages = ("librosa",)

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "range": [F0_MIN, F0_MAX], "hop": F0_HOP, "frame": F0_FRAME}

    def measure(self, items: Sequence[Item]) -> list[Any]:
        return [self._track(item.made.wave()) for item in items]

    def _track(self, wav: np.ndarray) -> list[float]:
        import librosa

        if len(wav) < F0_FRAME:
            return []
        hertz, _, _ = librosa.pyin(
            wav, fmin=F0_MIN, fmax=F0_MAX, sr=RATE, frame_length=F0_FRAME, hop_length=F0_HOP
        )
        return np.round(np.nan_to_num(hertz), 2).tolist()


class SNR(PairMeasure):
    """Signal-to-noise ratio in dB at 16 kHz; see `uas_plugin.metrics.distortion`."""

    name = "snr"

    def compare(self, reference: np.ndarray, made: np.ndarray) -> float | None:
        from uas_plugin.metrics.distortion import snr

        return snr(reference, made)


class SISDR(PairMeasure):
    """Scale-invariant signal-to-distortion ratio in dB at 16 kHz (the same module)."""

    name = "si_sdr"

    def compare(self, reference: np.ndarray, made: np.ndarray) -> float | None:
        from uas_plugin.metrics.distortion import si_sdr

        return si_sdr(reference, made)


PAIRS: dict[str, type[PairMeasure]] = {
    measure.name: measure for measure in (MelDistance, STFTDistance, PESQ, STOI, SNR, SISDR)
}
