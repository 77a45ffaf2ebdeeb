"""The form of every task, as ids, as text, and with what bears loss.

The five uses that UAS-Audio documents (arXiv 2604.12506: text chat, speech chat, transcription,
captioning, speech generation) and the schema and the questions. A template is made by the
functions that training and generation go through, with small made-up audio: what it shows is what
a model sees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from uas_plugin.audiollm import chat
from uas_plugin.audiollm.vocabulary import Vocabulary
from uas_plugin.data.text import TextTokenizer
from uas_plugin.errors import UASError, suggest

HEARD, SAID = (3, 1, 2), (5, 4, 7, 6)  # made-up audio tokens of a question and of an answer
SLOTS = (2, 1)  # shorter than in use, so that a template shows slots in turn
_SILENCE = (
    '{"transcription": null, "paralinguistics": null, "nonLinguisticEvents": {"description": null, '
    '"discreteEvents": [{"label": "siren", "characteristic": null}], "continuousEvents": []}}'
)


@dataclass(frozen=True)
class Template:
    """A task's example: messages, and the answer with its end mark.

    Args:
        ids: everything. loss: 1 where a token bears loss, as long as ``ids``. text: ``ids`` read.
    """

    ids: list[int]
    loss: list[int]
    text: str


def _transcribe() -> dict[str, Any]:
    return {"messages": chat.asr_messages(HEARD), "answer_text": "turn on"}


def _schema() -> dict[str, Any]:
    return {"messages": chat.uas_messages(HEARD), "answer_text": _SILENCE}


def _question() -> dict[str, Any]:
    messages = chat.qa_messages(HEARD, "Which sound is heard?", ["rain", "siren"])
    return {"messages": messages, "answer_text": "siren"}


def _speak() -> dict[str, Any]:
    messages = chat.tts_messages("turn on", attributes={"gender": "Female"})
    return {"messages": messages, "answer_audio": SAID}


def _caption() -> dict[str, Any]:
    return {"messages": chat.caption_messages(HEARD), "answer_text": "a siren"}


def _text_chat() -> dict[str, Any]:
    return {"messages": chat.text_chat_messages("Is it on?"), "answer_text": "the lamp is on"}


def _speech_chat() -> dict[str, Any]:
    messages = chat.speech_chat_messages(HEARD, slots=SLOTS)
    return {
        "messages": messages, "answer_text": "on", "answer_audio": SAID, "slots": SLOTS
    }  # fmt: skip


EXAMPLES: dict[str, Callable[[], dict[str, Any]]] = {
    "uas": _schema,
    "asr": _transcribe,
    "qa": _question,
    "tts": _speak,
    "caption": _caption,
    "text_chat": _text_chat,
    "speech_chat": _speech_chat,
}


def make_template(task: str, vocabulary: Vocabulary, text: TextTokenizer) -> Template:
    """The template of ``task`` (one of ``EXAMPLES``) in the ids of a model.

    Raises:
        UASError: there is no such task.
    """
    if task not in EXAMPLES:
        raise UASError(
            f"there is no template '{task}'; there are {', '.join(EXAMPLES)}."
            f"{suggest(task, EXAMPLES)}"
        )
    made = EXAMPLES[task]()
    example = chat.encode_example(made.pop("messages"), vocabulary, text, **made)
    asked = [*example.prefix, *example.prompt]
    loss = [0] * len(asked) + [1] * len(example.answer)
    ids = [*asked, *example.answer]
    return Template(ids, loss, read_ids(ids, vocabulary, text))


def read_ids(ids: Sequence[int], vocabulary: Vocabulary, text: TextTokenizer) -> str:
    """Ids as text, with the names of those that are no text."""
    return "".join(
        text.decode([i]) if i < vocabulary.text_size else vocabulary.name(i) for i in ids
    )
