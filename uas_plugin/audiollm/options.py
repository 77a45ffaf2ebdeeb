"""Options of the LM data and decoding stages: YAML maps onto them one to one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

from uas_plugin.audiollm.chat import ASKED_TASKS
from uas_plugin.audiollm.interleave import SLOTS, check_slots
from uas_plugin.errors import UASError, suggest
from uas_plugin.qa.labels import QUESTIONS

T = TypeVar("T")
CONTROLS = ("none", "shuffled", "no_audio")


def from_section(cls: type[T], section: Mapping[str, Any], name: str) -> T:
    """Make the dataclass ``cls`` of a mapping; ``name`` is the section, for messages.

    Raises:
        UASError: an unknown key (with the nearest known one) or a value that ``cls`` refuses.
    """
    hints = get_type_hints(cls)
    known = [item.name for item in fields(cls)]  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in section.items():
        if key not in known:
            raise UASError(f"{name}: unknown key '{key}'.{suggest(key, known)}")
        if is_dataclass(hints[key]) and isinstance(value, Mapping):
            value = from_section(hints[key], value, f"{name}.{key}")
        values[key] = tuple(value) if isinstance(value, list) else value
    try:
        return cls(**values)
    except TypeError as error:
        raise UASError(f"{name}: {error}") from None


def _check(names: tuple[str, ...], known: tuple[str, ...], what: str) -> None:
    for name in names:
        if name not in known:
            raise UASError(f"unknown {what} '{name}'.{suggest(name, known)}")


@dataclass(frozen=True, kw_only=True)
class QAOptions:
    """Multiple-choice questions.

    Args:
        fields: labels to ask about. choices: options of a question (fewer where a field has fewer
        classes). variants: questions per clip and field in training, with other options each.
    """

    fields: tuple[str, ...] = ("gender", "emotion", "sound", "music")
    choices: int = 4
    variants: int = 3

    def __post_init__(self) -> None:
        _check(self.fields, tuple(QUESTIONS), "question field")
        if self.choices < 2:
            raise UASError("a question needs at least two choices")


@dataclass(frozen=True, kw_only=True)
class TTSOptions:
    """Speech generation.

    Args:
        kinds: kinds of clips that are spoken alone (``custom.kind``).
        attributes: labels that stand in the prompt where they are known.
    """

    kinds: tuple[str, ...] = ("speech", "digits", "emotion")
    attributes: tuple[str, ...] = ("gender", "age", "emotion")


@dataclass(frozen=True, kw_only=True)
class SpeechChatOptions:
    """Speech that is answered in text and speech; none unless ``replies`` or ``kinds`` is set.

    Args:
        replies: JSON lines ``{"question": cut id, "answer": cut id}``: who answers whom.
        kinds: kinds of clips (``custom.kind``) that are said again, for corpora without dialogues:
            by another voice where a clip has the same words, else by the clip itself.
        slots: text pieces and audio tokens in turn.
    """

    replies: str | None = None
    kinds: tuple[str, ...] = ()
    slots: tuple[int, int] = SLOTS

    def __post_init__(self) -> None:
        check_slots(self.slots)

    @property
    def wanted(self) -> bool:
        """Whether there is anything to answer."""
        return bool(self.replies or self.kinds)


@dataclass(frozen=True, kw_only=True)
class InterleavedOptions:
    """Sentences in text and speech in turn, cut at word borders; none unless there are alignments.

    Args:
        word_durations: files of `uas ctc align`, of all sets.
        words: fewest and most words of a span. copies: of a clip, with other spans each.
    """

    word_durations: tuple[str, ...] = ()
    words: tuple[int, int] = (1, 4)
    copies: int = 1

    def __post_init__(self) -> None:
        if len(self.words) != 2 or not 1 <= self.words[0] <= self.words[1]:
            raise UASError(
                f"lm.data.interleaved.words: fewest and most words of a span, not {self.words}"
            )
        if self.copies < 1:
            raise UASError("lm.data.interleaved.copies is at least 1")


@dataclass(frozen=True, kw_only=True)
class LMDataOptions:
    """Items of the training and development sets.

    Args:
        seed: of the drawn options and prompts. prompt_variants: prompts in use per task.
        no_audio: share of the clips whose items are also shown without audio, so that the no-audio
        control is what the model expects of any clip, and not a form it never met.
        max_tokens: a group whose prefix and one item are longer is left out (and counted).
        shards: parts of the training set; above 1 it is read as an endless stream (``shards.py``).
        text_model: tokenizer of a backbone (``tokenizer.json`` or its folder), used in place of the
            run's own.
        audio: false: what is asked about a clip is asked without its audio (to see what the texts
        alone tell).
    """

    seed: int = 0
    prompt_variants: int = 3
    no_audio: float = 0.0
    max_tokens: int = 1024
    shards: int = 1
    text_model: str | None = None
    audio: bool = True
    qa: QAOptions = field(default_factory=QAOptions)
    tts: TTSOptions = field(default_factory=TTSOptions)
    speech_chat: SpeechChatOptions = field(default_factory=SpeechChatOptions)
    interleaved: InterleavedOptions = field(default_factory=InterleavedOptions)

    def __post_init__(self) -> None:
        if self.shards < 1:
            raise UASError("lm.data.shards is at least 1")


@dataclass(frozen=True, kw_only=True)
class DecodeOptions:
    """Which answers to make, and how.

    Args:
        text, audio: generation options of text answers and of speech (see GenerationOptions).
        max_items: at most so many items per task (null: all).
        constrain: write only what a task allows (schema JSON, one of the choices, text, audio).
        likelihood: also write how likely the model holds each choice of a question.
    """

    seed: int = 0
    tasks: tuple[str, ...] = ASKED_TASKS
    controls: tuple[str, ...] = CONTROLS
    batch_size: int = 32
    max_items: int | None = None
    constrain: bool = False
    likelihood: bool = False
    text: dict[str, Any] = field(default_factory=dict)
    audio: dict[str, Any] = field(default_factory=dict)
    qa: QAOptions = field(default_factory=QAOptions)
    tts: TTSOptions = field(default_factory=TTSOptions)
    speech_chat: SpeechChatOptions = field(default_factory=SpeechChatOptions)

    def __post_init__(self) -> None:
        _check(self.tasks, ASKED_TASKS, "task")
        _check(self.controls, CONTROLS, "control")
