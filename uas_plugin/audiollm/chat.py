"""Chat form of every task (arXiv 2604.12506, section 3; papers' prompts paraphrased).

``<|im_start|>role\\n ... <|im_end|>\\n``; the audio of a turn stands before its text, between
``<|audio_bos|>`` and ``<|audio_eos|>``. One function per task makes the messages; training and
generation both go through :func:`encode_messages`, so they cannot drift apart.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from uas_plugin.audiollm.interleave import SLOTS, interleave
from uas_plugin.audiollm.vocabulary import Vocabulary
from uas_plugin.data.text import TextTokenizer
from uas_plugin.errors import UASError, suggest
from uas_plugin.qa.wording import LETTERS, question_text

Message = Mapping[str, Any]
# An audio token written out; as text it would be read letter by letter.
_AUDIO_MARK = re.compile(r"<\|audio_\d+\|>")
ASKED_TASKS = ("uas", "asr", "qa", "tts", "speech_chat")
SPOKEN_TASKS = ("tts", "speech_chat")  # their answers hold audio
# What a model can be trained on; their numbers stand in the data, so new ones come last.
TASKS = (*ASKED_TASKS, "interleaved")
ROLES = ("system", "user", "assistant")
# Pieces of the chat form that the text tokenizer must hold as single pieces.
CHAT_SYMBOLS = tuple(f"{role}\n" for role in ROLES) + ("\n",)

# Some prompts per task: one is drawn per item in training; the first is used in tests.
PROMPTS: dict[str, tuple[str, ...]] = {
    "uas": (
        "Describe the audio as JSON.",
        "Write the audio schema.",
        "What is heard? Answer as JSON.",
    ),
    "asr": ("Transcribe the audio.", "Write what is said.", "What does the speaker say?"),
    "tts": ("Read aloud:", "Say this:", "Speak the text:"),
}

# Of uses beyond the trained tasks: no part of the text tokenizer's corpus.
CAPTION_PROMPT = "Say in one sentence what is heard."
INTERLEAVED_PROMPT = "Go on in text and speech."
DIALOGUE_PROMPT = "Answer in text and speech: {} pieces of text, then {} audio tokens, in turn."


@dataclass(frozen=True)
class Example:
    """Token ids of one item: ``prefix`` (up to the audio's end) + ``prompt`` + ``answer``.

    Only ``answer`` bears loss. Items of one clip have the same ``prefix``, so it is kept once.
    """

    prefix: list[int]
    prompt: list[int]
    answer: list[int]


def _user(text: str, audio: Any | None) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    if audio is not None:
        heard = audio if isinstance(audio, Mapping) else {"tokens": audio}
        parts.append({"type": "audio", **heard})
    parts.append({"type": "text", "text": text})
    return [{"role": "user", "content": parts}]


def uas_messages(audio: Any | None, *, variant: int = 0) -> list[dict[str, Any]]:
    """Ask for the schema JSON.

    Args:
        audio: codebook entries; a mapping, as of an audio part (``{"path": ...}``, ``{"audio":
            (waveform, Hz)}``); or None for the no-audio control. So too in the other tasks.
    """
    return _user(PROMPTS["uas"][variant % len(PROMPTS["uas"])], audio)


def asr_messages(audio: Any | None, *, variant: int = 0) -> list[dict[str, Any]]:
    """Ask for the transcription."""
    return _user(PROMPTS["asr"][variant % len(PROMPTS["asr"])], audio)


def qa_messages(audio: Any | None, question: str, choices: Sequence[str]) -> list[dict[str, Any]]:
    """Multiple choice: question, blank line, one option a line (``A. ...``).

    The answer is the text of an option, not its letter: at small size a letter is not learned.
    """
    return _user(question_text(question, choices), audio)


def tts_messages(
    text: str, *, attributes: Mapping[str, str] | None = None, variant: int = 0
) -> list[dict[str, Any]]:
    """Ask for speech. ``attributes`` (gender, age, emotion, ...) stand before the text, sorted."""
    prompt = PROMPTS["tts"][variant % len(PROMPTS["tts"])]
    asked = ", ".join(f"{name}: {value}" for name, value in sorted((attributes or {}).items()))
    return _user(f"{asked}\n{prompt} {text}" if asked else f"{prompt} {text}", None)


def caption_messages(audio: Any) -> list[dict[str, Any]]:
    """Ask for a sentence about the audio."""
    return _user(CAPTION_PROMPT, audio)


def text_chat_messages(text: str) -> list[dict[str, Any]]:
    """A question in text, to be answered in text."""
    return _user(text, None)


def speech_chat_messages(audio: Any, *, slots: Sequence[int] = SLOTS) -> list[dict[str, Any]]:
    """A spoken question, to be answered in text and speech in turn.

    As in UAS-Audio's demonstration, the system's turn asks for the form of the answer.
    """
    system = {"role": "system", "content": DIALOGUE_PROMPT.format(*slots)}
    return [system, *_user("", audio)]


def interleaved_messages() -> list[dict[str, Any]]:
    """Ask for a sentence in text and speech in turn (``word_spans``)."""
    return _user(INTERLEAVED_PROMPT, None)


def prompt_corpus() -> list[str]:
    """The fixed texts of all prompts, for the training of the text tokenizer."""
    from uas_plugin.qa.labels import QUESTIONS

    options = [f"{letter}. " for letter in LETTERS[:4]]
    attributes = [f"{name}: " for name in QUESTIONS]
    prompts = [prompt for variants in PROMPTS.values() for prompt in variants]
    return [*prompts, *QUESTIONS.values(), *options, *attributes]


def prompt_text(messages: Sequence[Message]) -> str:
    """The text parts of ``messages``, for records."""
    return "\n".join(text for message in messages for text in _split(message)[1])


def _split(message: Message) -> tuple[list[Mapping[str, Any]], list[str]]:
    """The audio parts and the texts of a message, each in order."""
    content = message.get("content")
    if content is None:
        return [], []
    if isinstance(content, str):
        return [], [content]
    if not isinstance(content, Sequence):
        raise UASError(f"message content is a text or a list of parts, not {content!r}")
    audios, texts = [], []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else part
        if kind == "audio":
            audios.append(part)
        elif kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind == "text":
            raise UASError("a text part needs 'text', a string")
        else:
            raise UASError(
                f"message part type {kind!r} is neither text nor audio."
                f"{suggest(str(kind), ('text', 'audio'))}"
            )
    return audios, texts


def _check_roles(messages: Sequence[Message]) -> None:
    for message in messages:
        role = message.get("role")
        if role not in ROLES:
            raise UASError(
                f"message role {role!r} is none of {', '.join(ROLES)}.{suggest(str(role), ROLES)}"
            )


def _check_text(texts: Sequence[str]) -> None:
    for text in texts:
        if found := _AUDIO_MARK.search(text):
            raise UASError(
                f"the text of a message holds the audio token {found.group()}: give audio as a "
                "part of its own, {'type': 'audio', 'tokens': [...]}"
            )


def encode_messages(
    messages: Sequence[Message],
    vocabulary: Vocabulary,
    text: TextTokenizer,
    *,
    encode_audio: Callable[[Mapping[str, Any]], Any] | None = None,
    slots: Callable[[Mapping[str, Any]], Sequence[int]] | None = None,
    spoken: bool = False,
) -> list[int]:
    """Token ids of ``messages`` with the opening of the assistant's turn behind them.

    A last message of the assistant is left open, so that the answer goes on from it.

    Args:
        encode_audio: gives the codebook entries of an audio part that has no ``tokens``.
        slots: of continuous input: the ids that stand for an audio part.
        spoken: the answer is audio alone. Then a system turn may stand alone: that is how the
            published evaluation asks for speech.

    Raises:
        UASError: unknown role or part, no user turn, or audio without tokens and no way to make
            them.
    """
    if not messages:
        raise UASError("there is no message to answer")
    _check_roles(messages)
    asking = ("user", "system") if spoken else ("user",)
    if all(message["role"] not in asking for message in messages):
        raise UASError("there is no user turn to answer: add {'role': 'user', 'content': ...}")
    ids: list[int] = []
    for message in messages:
        role = message["role"]
        audios, texts = _split(message)
        _check_text(texts)
        ids += [vocabulary.im_start, *text.encode(f"{role}\n")]
        for part in audios:
            if slots is None:
                ids += audio_span(_tokens(part, encode_audio), vocabulary)
            else:
                ids += [vocabulary.audio_bos, *slots(part), vocabulary.audio_eos]
        ids += text.encode("\n".join(texts))
        ids += [vocabulary.im_end, *text.encode("\n")]
    closing = 1 + len(text.encode("\n"))
    if messages[-1]["role"] == "assistant":
        return ids[:-closing]
    return [*ids, vocabulary.im_start, *text.encode("assistant\n")]


def _tokens(part: Mapping[str, Any], encode_audio: Callable[..., Any] | None) -> Any:
    if part.get("tokens") is not None:
        return part["tokens"]
    if encode_audio is None:
        raise UASError("an audio part has no tokens and there is no audio tokenizer to make them")
    return encode_audio(part)


def audio_span(codes: Any, vocabulary: Vocabulary) -> list[int]:
    """Ids of codebook entries between the two audio marks."""
    return [vocabulary.audio_bos, *vocabulary.audio_ids(codes), vocabulary.audio_eos]


def encode_example(
    messages: Sequence[Message],
    vocabulary: Vocabulary,
    text: TextTokenizer,
    *,
    answer_text: str | None = None,
    answer_audio: Any | None = None,
    answer_ids: Sequence[int] | None = None,
    slots: Sequence[int] = SLOTS,
) -> Example:
    """Ids of a training item. The answer ends with ``<|im_end|>``.

    Args:
        answer_text, answer_audio: text, or codebook entries; both: in turn, by ``slots``.
        answer_ids: vocabulary ids in their place.

    Raises:
        UASError: there is no answer, or a message is wrong.
    """
    if answer_text is None and answer_audio is None and answer_ids is None:
        raise UASError("an item needs a text answer, an audio answer, or both")
    prompt = encode_messages(messages, vocabulary, text)
    if answer_ids is not None:
        answer = list(answer_ids)
    elif answer_text is not None and answer_audio is not None:
        answer = interleave(text.encode(answer_text), answer_audio, vocabulary, slots)
    elif answer_text is not None:
        answer = text.encode(answer_text)
    else:
        answer = audio_span(answer_audio, vocabulary)
    end = 0
    if vocabulary.audio_eos in prompt:
        end = len(prompt) - prompt[::-1].index(vocabulary.audio_eos)
    return Example(prompt[:end], prompt[end:], [*answer, vocabulary.im_end])
