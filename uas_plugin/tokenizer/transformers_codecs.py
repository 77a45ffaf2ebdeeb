"""The neural codecs that transformers ships, behind the API of our own tokenizers.

DAC, EnCodec, Mimi, X-Codec, X-Codec 2, NeuCodec and Higgs Audio v2's tokenizer. A folder that
``save_pretrained`` of the model and of its feature extractor wrote is all that is needed.

Clips are encoded one by one. None of these models masks padding: it reaches the last frames through
the convolutions, and every frame of X-Codec and Higgs Audio through HuBERT's attention and its
normalisation over time. Batches of equal lengths need no padding, but the sums in convolutions then
run in another order; the rounding is enough to change codes (seen with a Mimi of full size and
random weights). So a clip's codes are those of the model for that clip alone, bit for bit, whatever
else is in the batch; the price is that short clips do not fill a GPU.

The codecs were made for short clips. Longer audio is cut into chunks of 30 s as for our own
tokenizers, each with the frames that the model gives for it, which are joined. Where 30 s are no
whole number of frames (DAC at 44.1 kHz: 2583.98), or where the extractor appends a frame
(X-Codec 2: 1501 for 1500), frame times drift by that much a chunk.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from uas_plugin.atomic import atomic_folder, write_json
from uas_plugin.errors import UASError
from uas_plugin.provenance import provenance
from uas_plugin.tokenizer.base import TokenizerBase
from uas_plugin.tokenizer.codec_adapters import ADAPTERS, CodecAdapter, forget_derived
from uas_plugin.tokenizer.extract import Batching
from uas_plugin.tokenizer.released import read_json, read_weights

CONFIG_NAME, EXTRACTOR_NAME = "config.json", "preprocessor_config.json"
#: Key of config.json: how many codebooks the saved tokenizer gave.
_CODEBOOKS_KEY = "uas_num_codebooks"
#: Key of config.json: it was saved as one codebook, by uas_plugin.tokenizer.flatten.
FLATTENED_KEY = "uas_flattened"
# What a config may say to run code or read files from elsewhere.
_OUTSIDE_KEYS = frozenset(
    {
        "attn_implementation",
        "_attn_implementation",
        "auto_map",
        "fusion_config",
        "kernel_config",
        "quantization_config",
        "transformers_weights",
    }
)
# Models that X-Codec and its relatives may be built from.
_PARTS = {
    "acoustic_model_config": ("dac",),
    "semantic_model_config": ("hubert", "wavlm", "wav2vec2-bert"),
}
# Bookkeeping of training and masking, which encoding and decoding do not read.
_BOOKKEEPING = ("inited", "initialized", "cluster_size", "embed_avg", "masked_spec_embed")
_SHOWN = 5


class CodecTokenizer(TokenizerBase):
    """Audio to codes of a neural codec, and back.

    Attributes:
        sampling_rate: Hz that the codec hears (audio at other rates is resampled).
        frame_rate: frames per second.
        codebook_size: ids are 0 .. codebook_size - 1 in each codebook.
        num_codebooks: C; ids of a clip are (T, C), also where C is 1.

    Args:
        adapter: the codec.
        num_codebooks: how many of its codebooks, from the first on (default: what the model gives
            when it is not told a bandwidth).

    Raises:
        UASError: the codec has not so many codebooks, or cannot be used (see the adapter's check).
    """

    def __init__(self, adapter: CodecAdapter, num_codebooks: int | None = None) -> None:
        adapter.check()
        most = adapter.max_codebooks
        wanted = adapter.default_codebooks if num_codebooks is None else num_codebooks
        if isinstance(wanted, bool) or not isinstance(wanted, int) or not 1 <= wanted <= most:
            raise UASError(f"num_codebooks must be a number from 1 to {most}, not {wanted!r}")
        self.adapter, self.num_codebooks = adapter, wanted
        self.sampling_rate = int(adapter.sampling_rate)
        self.frame_rate = adapter.sampling_rate / adapter.hop_length
        self.codebook_size = int(adapter.codebook_size)

    @property
    def model(self) -> torch.nn.Module:
        """The model of transformers."""
        return self.adapter.model

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def to(self, device: Any = None, dtype: Any = None) -> CodecTokenizer:
        """Move the model and set its dtype; ids of a lower precision are others than float32's."""
        self.model.to(device=device, dtype=dtype)
        forget_derived(self.model)
        return self

    def encode_stream(
        self, audios: Iterable[tuple[str, Any]], batching: Batching | None = None
    ) -> Iterator[tuple[str, np.ndarray | UASError]]:
        """As the base's, with ids of shape (T, C); an audio of no samples gives (0, C)."""
        for key, ids in super().encode_stream(audios, batching):
            # An audio of no samples never reaches the codec: its empty ids are (0,).
            yield key, ids if isinstance(ids, UASError) else ids.reshape(-1, self.num_codebooks)

    @torch.inference_mode()
    def encode_chunks(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Ids (T, C) int64 of clips, (samples,) float32 at ``sampling_rate``, at most 30 s each."""
        codes = (self.adapter.encode(waveform, self.num_codebooks) for waveform in waveforms)
        return [np.ascontiguousarray(code.cpu().numpy().T, dtype=np.int64) for code in codes]

    @torch.inference_mode()
    def decode(self, ids: np.ndarray) -> tuple[np.ndarray, int]:
        """Waveform of a clip and its rate in Hz, which a codec may have apart from the input's.

        Args:
            ids: (T, C) integers, decoded in one piece; (T,) will do for one codebook.

        Returns:
            (samples,) float32, as many as the codec gives for T frames: T / frame_rate seconds up
            to a frame; and the rate.

        Raises:
            UASError: a wrong shape or dtype, or an id outside the codebook.
        """
        codes = self._checked(np.asarray(ids))
        rate = int(self.adapter.output_rate)
        if not len(codes):
            return np.zeros(0, dtype=np.float32), rate
        rows = torch.from_numpy(codes.T.copy()).to(self.device)
        return self.adapter.decode(rows).float().cpu().numpy(), rate

    def _checked(self, ids: np.ndarray) -> np.ndarray:
        if ids.ndim == 1 and self.num_codebooks == 1:
            ids = ids[:, None]
        shape = f"(frames, {self.num_codebooks})"
        if ids.ndim != 2 or ids.shape[1] != self.num_codebooks:
            raise UASError(f"the ids of a clip are {shape}, not of shape {ids.shape}")
        if ids.size and not np.issubdtype(ids.dtype, np.integer):
            raise UASError(f"ids must be integers, not {ids.dtype}")
        wrong = ids[(ids < 0) | (ids >= self.codebook_size)]
        if wrong.size:
            raise UASError(f"id {wrong[0]} is outside the codebook 0..{self.codebook_size - 1}")
        return ids.astype(np.int64)

    def save_pretrained(self, folder: str | os.PathLike[str], *, flattened: bool = False) -> None:
        """Write model, feature extractor and number of codebooks; transformers reads it too.

        The folder appears complete or not at all. ``flattened``: ``load_tokenizer`` is to give a
        :class:`~uas_plugin.tokenizer.flatten.FlattenedTokenizer` of it.
        """
        from uas_plugin.tokenizer.export import PROVENANCE_NAME

        with atomic_folder(folder) as temporary:
            self.model.save_pretrained(temporary)
            self.adapter.extractor.save_pretrained(temporary)
            keys = {_CODEBOOKS_KEY: self.num_codebooks}
            if flattened:
                keys[FLATTENED_KEY] = True
            config = read_json(temporary / CONFIG_NAME)
            write_json(temporary / CONFIG_NAME, {**config, **keys})
            write_json(temporary / PROVENANCE_NAME, provenance())


def is_codec(folder: Path) -> bool:
    """Whether ``config.json`` of the folder names a codec that is read here."""
    path = folder / CONFIG_NAME
    return path.is_file() and str(read_json(path).get("model_type")) in ADAPTERS


def load_codec_tokenizer(
    folder: str | os.PathLike[str],
    device: Any = "cpu",
    dtype: Any = None,
    *,
    num_codebooks: int | None = None,
) -> CodecTokenizer:
    """Load a codec from a folder; nothing is downloaded and no code of the folder is run.

    What was saved flattened is loaded as the codec behind it.

    Args:
        folder: ``config.json``, ``preprocessor_config.json`` and safetensors weights.
        device, dtype: where and in which torch dtype to run (default: float32).
        num_codebooks: how many codebooks, from the first on. Default: those of the tokenizer that
            was saved; of a plain checkpoint what the model gives when it is not told a bandwidth
            (DAC and Mimi all, EnCodec those of its first bandwidth, X-Codec of its last).

    Raises:
        UASError: it is no codec that is read here, is damaged, or its files contradict each other.
    """
    folder = Path(folder)
    settings = read_json(folder / CONFIG_NAME)
    kind = str(settings.get("model_type"))
    if kind not in ADAPTERS:
        known = ", ".join(sorted(ADAPTERS))
        raise UASError(f"{folder}: its model_type is {kind}, which is none of {known}")
    saved = settings.pop(_CODEBOOKS_KEY, None)
    settings.pop(FLATTENED_KEY, None)
    model = _load_model(folder, ADAPTERS[kind].model_name, _without_outside(settings))
    extractor = _load_extractor(folder, ADAPTERS[kind].extractor_name)
    adapter = ADAPTERS[kind](model, extractor)
    if extractor.sampling_rate != adapter.sampling_rate:
        raise UASError(
            f"{folder / EXTRACTOR_NAME}: sampling_rate is {extractor.sampling_rate}, but the "
            f"codec's is {adapter.sampling_rate}: take both files from one release"
        )
    try:
        tokenizer = CodecTokenizer(adapter, saved if num_codebooks is None else num_codebooks)
    except UASError as error:
        raise UASError(f"{folder}: {error}") from None
    return tokenizer.to(device, dtype)


def _without_outside(settings: Any) -> Any:
    """The settings, at any depth, without the keys that point outside the folder."""
    if isinstance(settings, dict):
        kept = {key: value for key, value in settings.items() if key not in _OUTSIDE_KEYS}
        return {key: _without_outside(value) for key, value in kept.items()}
    return [_without_outside(x) for x in settings] if isinstance(settings, list) else settings


def _load_model(folder: Path, name: str, settings: dict[str, Any]) -> Any:
    """The model in float32 and eval mode, with every weight from the folder."""
    import transformers

    model_class = getattr(transformers, name)
    for part, kinds in _PARTS.items():
        value = settings.get(part)
        kind = value.get("model_type", kinds[0]) if isinstance(value, dict) else kinds[0]
        if kind not in kinds:
            raise UASError(f"{folder / CONFIG_NAME}: {part} is {kind}, none of {', '.join(kinds)}")
    weights = read_weights(folder, ("model.safetensors",))
    try:
        config = model_class.config_class.from_dict(settings)
        # Given the weights, transformers opens no file itself: no adapter, no pickle, no shard
        # outside the folder. It renames the keys of older releases.
        model, report = model_class.from_pretrained(
            None,
            config=config,
            state_dict=weights,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except Exception as error:  # untrusted settings fail in transformers and torch in many ways
        reason = " ".join(str(error).split())
        raise UASError(f"{folder / CONFIG_NAME}: no {name} can be made of it: {reason}") from None
    # Transformers leaves such weights at random values, with no more than a warning.
    missing = [key for key in report["missing_keys"] if key.rpartition(".")[2] not in _BOOKKEEPING]
    wrong = sorted(f"missing {key}" for key in missing)
    wrong += sorted(f"{key[0]} has another shape" for key in report["mismatched_keys"])
    if wrong:
        more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise UASError(
            f"the weights in {folder} do not fit its {CONFIG_NAME}: "
            f"{'; '.join(wrong[:_SHOWN])}{more}"
        )
    return model.eval()


def _load_extractor(folder: Path, name: str) -> Any:
    import transformers

    path = folder / EXTRACTOR_NAME
    if not path.is_file():
        raise UASError(f"{path} is missing: save the codec's {name} beside the model")
    settings = read_json(path)
    found = settings.get("feature_extractor_type", name)
    if found != name:
        raise UASError(f"{path}: the feature extractor is {found}, but this codec needs {name}")
    try:
        return getattr(transformers, name).from_dict(_without_outside(settings))
    except (TypeError, ValueError, ImportError) as error:  # ImportError: it needs torchaudio
        raise UASError(f"{path}: {' '.join(str(error).split())}") from None
