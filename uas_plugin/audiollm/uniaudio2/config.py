"""Sizes and special ids of the unified LM; the defaults are the published model's.

UniAudio 2.0, section 4.3. The ids of the audio streams' marks are not published with the code: a
release states them in its ``llm_config.yaml``, which `special_ids` reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from uas_plugin.errors import UASError

CODEBOOKS = 8
TEXT = CODEBOOKS  # column of a frame that holds the text id; the columns before it are audio
STREAMS = CODEBOOKS + 1
TEXT_BOS, TEXT_EOS = 128_000, 128_001
# Reserved ids of Llama 3.2's tokenizer that the model was taught to open and close text fields with
MARKERS = {
    "transcription": (128_011, 128_012),
    "lyric": (128_013, 128_014),
    "caption": (128_015, 128_016),
}
ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


@dataclass(frozen=True)
class StackConfig:
    """One stack of Llama blocks; ``kv_heads`` key/value heads, ``inner`` wide feed-forward."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    inner: int


@dataclass(frozen=True)
class UniAudio2Config:
    """Sizes of the four stacks and vocabularies.

    Args:
        reason_card, semantic_card: ids of the two audio branches, marks included; an id of the
            second is stored with ``reason_card`` added. The first's must be 0 .. reason_card - 1.
        max_frames: positions of a sequence.
    """

    reason_card: int = 4100
    semantic_card: int = 8200
    text_vocab: int = 128_256
    backbone: StackConfig = StackConfig(28, 3072, 24, 8, 8192)
    understanding: StackConfig = StackConfig(3, 3072, 24, 8, 8192)
    generation: StackConfig = StackConfig(2, 3072, 24, 8, 8192)
    depth: StackConfig = StackConfig(4, 2048, 32, 8, 8192)
    max_frames: int = 2048

    def __post_init__(self) -> None:
        widths = {self.backbone.width, self.understanding.width, self.generation.width}
        if len(widths) != 1:
            raise UASError(f"backbone and experts must have one width, not {sorted(widths)}")

    @property
    def audio_vocab(self) -> int:
        """Ids of one codebook's stream: both branches."""
        return self.reason_card + self.semantic_card


@dataclass(frozen=True)
class SpecialIds:
    """Marks of a sequence.

    Args:
        reason_bos, reason_eos, reason_pad: ids of the reasoning branch. semantic_bos, ...: of the
            reconstruction branch, before ``reason_card`` is added.
        audio_prompt_bos, audio_prompt_eos: of a timbre prompt; these are not shifted.
        text_bos, text_eos, text_pad: ids of the text stream; ``text_pad`` replaces all text in the
            negative prompt of guidance.
        markers: field -> (open, close).
    """

    reason_card: int
    reason_bos: int
    reason_eos: int
    reason_pad: int
    semantic_bos: int
    semantic_eos: int
    semantic_pad: int
    audio_prompt_bos: int
    audio_prompt_eos: int
    text_pad: int
    text_bos: int = TEXT_BOS
    text_eos: int = TEXT_EOS
    markers: Mapping[str, tuple[int, int]] = field(default_factory=lambda: dict(MARKERS))

    @property
    def reason_codes(self) -> int:
        """Codes of a reasoning codebook: the ids below its marks."""
        return min(self.reason_bos, self.reason_eos, self.reason_pad)

    @property
    def semantic_codes(self) -> int:
        """Codes of a reconstruction codebook."""
        return min(self.semantic_bos, self.semantic_eos, self.semantic_pad)


def plain_ids(reason_codes: int, semantic_codes: int, pieces: int) -> SpecialIds:
    """Marks for codebooks and a text tokenizer of any size: behind their ids, one after the other.

    Args:
        reason_codes, semantic_codes: codes of a codebook of either branch. pieces: of the text.
    """
    reason_card = reason_codes + 3
    behind = reason_card + semantic_codes + 3
    text = pieces + 3
    return SpecialIds(
        reason_card=reason_card,
        reason_bos=reason_codes,
        reason_eos=reason_codes + 1,
        reason_pad=reason_codes + 2,
        semantic_bos=semantic_codes,
        semantic_eos=semantic_codes + 1,
        semantic_pad=semantic_codes + 2,
        audio_prompt_bos=behind,
        audio_prompt_eos=behind + 1,
        text_pad=pieces + 2,
        text_bos=pieces,
        text_eos=pieces + 1,
        markers={name: (text + 2 * i, text + 2 * i + 1) for i, name in enumerate(MARKERS)},
    )


def vocabularies(ids: SpecialIds) -> dict[str, int]:
    """The sizes of a `UniAudio2Config` that marks by `plain_ids` ask for."""
    return {
        "reason_card": ids.reason_card,
        "semantic_card": ids.audio_prompt_eos + 1 - ids.reason_card,
        "text_vocab": 1 + max(max(pair) for pair in ids.markers.values()),
    }


_RELEASE_NAMES = {  # ours -> in llm_config.yaml
    "reason_card": "audio_reason_card",
    "reason_bos": "reason_bos",
    "reason_eos": "reason_eos",
    "reason_pad": "reason_pad_token",
    "semantic_bos": "semantic_bos",
    "semantic_eos": "semantic_eos",
    "semantic_pad": "semantic_pad_token",
    "audio_prompt_bos": "audio_prompt_bos",
    "audio_prompt_eos": "audio_prompt_eos",
    "text_pad": "text_pad_token",
}


def special_ids(options: Mapping[str, Any]) -> SpecialIds:
    """The marks from a release's ``llm_config.yaml``.

    Raises:
        UASError: a key is missing or no integer.
    """
    bad = [key for key in _RELEASE_NAMES.values() if not isinstance(options.get(key), int)]
    if bad:
        raise UASError(f"llm_config.yaml must state as integers: {', '.join(bad)}")
    return SpecialIds(**{ours: options[key] for ours, key in _RELEASE_NAMES.items()})


def lm_config(options: Mapping[str, Any]) -> UniAudio2Config:
    """A configuration from a mapping as `config_dict` makes it.

    Raises:
        UASError: an unknown or missing key.
    """
    values = dict(options)
    stacks = {f.name for f in fields(UniAudio2Config) if f.type == "StackConfig"}
    try:
        for name in stacks & set(values):
            values[name] = StackConfig(**values[name])
        return UniAudio2Config(**values)
    except TypeError as error:
        raise UASError(f"configuration of a unified LM: {error}") from None


def config_dict(config: UniAudio2Config | SpecialIds) -> dict[str, Any]:
    """A configuration as plain JSON values."""
    return asdict(config)


def ids_of_dict(options: Mapping[str, Any]) -> SpecialIds:
    """The marks from a mapping as `config_dict` makes it.

    Raises:
        UASError: an unknown or missing key.
    """
    values = dict(options)
    if "markers" in values:
        values["markers"] = {k: (int(a), int(b)) for k, (a, b) in values["markers"].items()}
    try:
        return SpecialIds(**values)
    except TypeError as error:
        raise UASError(f"special ids of a unified LM: {error}") from None
