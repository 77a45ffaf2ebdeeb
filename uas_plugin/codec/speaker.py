"""Speaker vectors of audio, by extractors with a name; the token decoder takes them as condition.

``campplus``: CAM++ (arXiv 2303.00332), 192 numbers, the extractor of the released decoders; the
user gives its ONNX file. ``wavlm``: WavLM with an x-vector head for speaker verification (arXiv
2110.13900), a folder of transformers. ``resemblyzer``: GE2E (arXiv 1710.10467), 256 numbers; its
package carries the weights. A decoder takes vectors of the extractor that it was trained with.
Shapes: `S` samples at 16 kHz, `D` numbers of a vector.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from uas_plugin.data.audio import SAMPLING_RATE
from uas_plugin.errors import UASError, suggest

FIELD = "speaker_embedding"  # of a cut: a Lhotse array, or a list of numbers
EXTRA = "judges"
MEL_BINS, MIN_SECONDS = 80, 0.1


class SpeakerExtractor(Protocol):
    """What is needed of an extractor."""

    name: str
    dim: int

    def __call__(self, wav: np.ndarray) -> np.ndarray:
        """Vector (D,) float32 of mono audio (S,) float32 at 16 kHz.

        Raises:
            UASError: the audio is silent or shorter than 0.1 s.
        """
        ...

    def settings(self) -> dict[str, Any]:
        """What decides its vectors, as JSON values."""
        ...


def missing_package(package: str, user: str, extra: str = EXTRA) -> UASError:
    """The error for a package that is not installed; without ``extra`` it is the user's to add."""
    mend = f"install the extra '{extra}' (local/setup.sh --extra {extra})"
    if not extra:
        mend = "no extra of this project has it: install it beside this project"
    return UASError(f"{user} needs the package '{package}': {mend}")


class CamPlus:
    """CAM++ from an ONNX file: input (1, frames, 80), output (1, D).

    Features as in CosyVoice's and 3D-Speaker's front-ends: Kaldi's log-mel filterbank without
    dither, less its mean over the utterance.
    """

    name = "campplus"

    def __init__(self, model: str | os.PathLike[str], device: str = "cpu") -> None:
        try:
            import onnxruntime
        except ImportError:
            raise missing_package("onnxruntime", self.name) from None
        from onnxruntime.capi.onnxruntime_pybind11_state import (
            Fail,
            InvalidArgument,
            InvalidGraph,
            InvalidProtobuf,
        )

        self.path = Path(model)
        if not self.path.is_file():
            raise UASError(f"campplus: there is no file {model}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", 1))
        cuda = ["CUDAExecutionProvider"] if device.startswith("cuda") else []
        try:
            self.session = onnxruntime.InferenceSession(
                self.path.read_bytes(), options, providers=[*cuda, "CPUExecutionProvider"]
            )
        except (Fail, InvalidArgument, InvalidGraph, InvalidProtobuf, RuntimeError) as error:
            raise UASError(f"campplus: {model} is no ONNX model: {error}") from None
        inputs, output = self.session.get_inputs(), self.session.get_outputs()[0]
        shape = inputs[0].shape
        if len(inputs) != 1 or len(shape) != 3 or shape[2] != MEL_BINS:
            raise UASError(f"campplus: {model} takes {shape}, not (1, frames, {MEL_BINS})")
        self.input = inputs[0].name
        known = output.shape[-1] if output.shape else None
        # An exporter may leave the output's size open: one frame of silence tells it.
        self.dim = known if isinstance(known, int) else self._run(np.zeros((20, MEL_BINS))).size

    def settings(self) -> dict[str, Any]:
        from uas_plugin.provenance import file_sha256

        return {"name": self.name, "sha256": file_sha256(self.path)}

    def _run(self, features: np.ndarray) -> np.ndarray:
        batch = {self.input: features[None].astype(np.float32)}
        return np.asarray(self.session.run(None, batch)[0], dtype=np.float32).reshape(-1)

    def __call__(self, wav: np.ndarray) -> np.ndarray:
        check_audible(wav)
        return self._run(fbank(wav))


def fbank(wav: np.ndarray) -> np.ndarray:
    """Kaldi log-mel filterbank (frames, 80) of (S,) at 16 kHz, mean over the frames 0."""
    import torch
    from torchaudio.compliance import kaldi

    features = kaldi.fbank(
        torch.from_numpy(np.ascontiguousarray(wav, dtype=np.float32))[None],
        num_mel_bins=MEL_BINS,
        sample_frequency=SAMPLING_RATE,
        dither=0.0,
    )
    return (features - features.mean(dim=0, keepdim=True)).numpy()


class Resemblyzer:
    """The GE2E encoder of the package ``resemblyzer``; vectors have length 1.

    Its own preparation is kept: quiet audio is made louder and long pauses are shortened.
    """

    name = "resemblyzer"
    dim = 256

    def __init__(self, device: str = "cpu") -> None:
        try:
            from resemblyzer import VoiceEncoder
        except ImportError as error:
            raise missing_package(error.name or "resemblyzer", self.name) from None
        self.encoder = VoiceEncoder(device, verbose=False)

    def settings(self) -> dict[str, Any]:
        from importlib import metadata

        return {"name": self.name, "version": metadata.version("resemblyzer")}

    def __call__(self, wav: np.ndarray) -> np.ndarray:
        from resemblyzer import preprocess_wav

        check_audible(wav)
        voiced = preprocess_wav(wav)
        # Its voice detector may find none in noisy or very short audio.
        return self.encoder.embed_utterance(voiced if len(voiced) else wav).astype(np.float32)


class WavLM:
    """WavLM for speaker verification, as ``WavLMForXVector`` of transformers; vectors of length 1.

    SEED-TTS-eval judges with a WavLM-large whose verification head is in the UniSpeech code's own
    form; what transformers loads (``microsoft/wavlm-base-plus-sv``, or a converted checkpoint) is
    of the same family, but its figures are those of the folder that is given.
    """

    name = "wavlm"
    released = "microsoft/wavlm-base-plus-sv"

    def __init__(self, folder: str | os.PathLike[str], device: str = "cpu") -> None:
        from safetensors import SafetensorError
        from transformers import AutoFeatureExtractor, WavLMForXVector

        self.folder, self.device = Path(folder), device
        try:
            self.extractor = AutoFeatureExtractor.from_pretrained(self.folder)
            model = WavLMForXVector.from_pretrained(self.folder, use_safetensors=True)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise UASError(f"wavlm: {folder} cannot be loaded: {reason[0]}") from None
        self.model = model.to(device).eval()
        self.dim = int(model.config.xvector_output_dim)

    def settings(self) -> dict[str, Any]:
        from uas_plugin.provenance import file_sha256

        files = sorted(self.folder.glob("*.safetensors"))
        return {
            "name": self.name,
            "model": self.folder.name,
            "sha256": {file.name: file_sha256(file) for file in files},
        }

    def __call__(self, wav: np.ndarray) -> np.ndarray:
        import torch

        check_audible(wav)
        inputs = self.extractor(wav, sampling_rate=SAMPLING_RATE, return_tensors="pt")
        with torch.inference_mode():
            found = self.model(inputs["input_values"].to(self.device)).embeddings
        return torch.nn.functional.normalize(found, dim=-1)[0].float().cpu().numpy()


def check_audible(wav: np.ndarray) -> None:
    """Raise UASError for audio (S,) at 16 kHz that is silent or shorter than 0.1 s."""
    if len(wav) < MIN_SECONDS * SAMPLING_RATE:
        raise UASError(f"shorter than {MIN_SECONDS} s: it has no speaker vector")
    if not np.any(wav):
        raise UASError("silent: it has no speaker vector")


NAMES = (Resemblyzer.name, CamPlus.name, WavLM.name)


def load_speaker(spec: str = Resemblyzer.name, device: str = "cpu") -> SpeakerExtractor:
    """An extractor by its name: ``resemblyzer``, ``campplus=FILE.onnx`` or ``wavlm=FOLDER``.

    Raises:
        UASError: unknown name, missing file or missing package.
    """
    name, _, path = spec.partition("=")
    if name == CamPlus.name:
        if not path:
            raise UASError("campplus needs its ONNX file: campplus=FILE.onnx")
        return CamPlus(path, device)
    if name == WavLM.name:
        if not Path(path).is_dir():
            raise UASError(f"wavlm needs a folder: download {WavLM.released} and pass wavlm=FOLDER")
        return WavLM(path, device)
    if name != Resemblyzer.name:
        raise UASError(f"unknown speaker extractor '{name}'.{suggest(name, NAMES)}")
    if path:
        raise UASError("resemblyzer takes no file: its package carries the weights")
    return Resemblyzer(device)


def read_vector(path: str | os.PathLike[str]) -> np.ndarray:
    """The speaker vector (D,) float32 of a ``.npy`` file.

    Raises:
        UASError: missing, no array of numbers, or not one vector.
    """
    try:
        vector = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UASError(f"{path} holds no speaker vector: {error}") from None
    return _vector(vector, os.fspath(path))


def vector_of_cut(cut: Any) -> np.ndarray:
    """The speaker vector (D,) float32 that a cut has in its manifest.

    Raises:
        UASError: it has none, or it cannot be read.
    """
    value = (getattr(cut, "custom", None) or {}).get(FIELD)
    if value is None:
        raise UASError(f"cut {cut.id} has no {FIELD}: `uas speaker` stores it")
    if not isinstance(value, (list, tuple)):
        try:
            value = value.load()
        except (OSError, KeyError, ValueError, AttributeError) as error:
            raise UASError(f"cut {cut.id}: its {FIELD} cannot be read: {error}") from None
    return _vector(np.asarray(value), f"cut {cut.id}")


def _vector(value: np.ndarray, name: str) -> np.ndarray:
    """(D,) float32 of (D,) or (1, D) numbers."""
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
        raise UASError(f"{name}: a speaker vector is an array of numbers")
    vector = value[0] if value.ndim == 2 and len(value) == 1 else value
    if vector.ndim != 1 or not vector.size or not np.isfinite(vector).all():
        raise UASError(f"{name}: a speaker vector is (D,) finite numbers, not {value.shape}")
    return vector.astype(np.float32)


def check_dimension(vector: np.ndarray, dim: int, name: str) -> None:
    """Raise UASError unless the decoder, which takes ``dim`` numbers, can take ``vector``."""
    if len(vector) != dim:
        raise UASError(
            f"{name}: the speaker vector has {len(vector)} numbers, but this decoder takes {dim}: "
            "use the extractor that it was trained with (campplus has 192, resemblyzer 256)"
        )
