"""Questions about audio with their answers, for the reasoning branch to learn from.

UniAudio 2.0, App. A.2: recognition, captioning and question answering, asked in many wordings; the
wordings here are ours.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from uas_plugin.data.targets import class_caption
from uas_plugin.errors import UASError

WORDINGS = {
    "transcription": (
        "What is said?",
        "Write down the words of the speaker.",
        "Give the spoken text.",
    ),
    "caption": (
        "What can be heard?",
        "Describe this recording in a sentence.",
        "Say what happens in this audio.",
    ),
    "label": (
        "Name the {label}.",
        "What is the {label} in this recording?",
    ),
    "analysis": (
        "Analyse this recording in detail.",
        "Write all that can be learned from this audio.",
    ),
    "qa": ("{question}",),  # as the cut asks
}
TEMPLATE = "USER: {question} ASSISTANT: "


class Example(NamedTuple):
    """A question and its answer; ``kind`` is a key of `WORDINGS`."""

    kind: str
    question: str
    answer: str


def check_kinds(kinds: Collection[str]) -> None:
    """Refuse unknown kinds of questions.

    Raises:
        UASError: names them.
    """
    unknown = sorted(set(kinds) - set(WORDINGS))
    if unknown:
        raise UASError(f"unknown kind of question: {unknown[0]}; known: {', '.join(WORDINGS)}")


def examples_of(cut: Any, kinds: Collection[str], draw: Any) -> Iterator[Example]:
    """What can be asked about a Lhotse cut.

    From its supervisions' text; of its ``custom`` (or a supervision's) ``caption``, the schema's
    description or the class of a clip without words; ``labels`` (name -> value), ``analysis``, and
    ``qa``, a list of ``{"question", "answer"}``.

    Args:
        draw: of n wordings gives the number of one (`numpy.random.Generator.integers`).
    """
    custom = dict(cut.custom or {})
    for supervision in cut.supervisions:
        custom |= supervision.custom or {}
    events = (custom.get("uas") or {}).get("nonLinguisticEvents") or {}
    text = " ".join(s.text for s in cut.supervisions if s.text)
    caption = custom.get("caption") or events.get("description")
    found: list[tuple[str, dict[str, str], Any]] = [
        ("transcription", {}, text),
        ("caption", {}, caption or class_caption(text, custom.get("labels") or {})),
        ("analysis", {}, custom.get("analysis")),
    ]
    for name, value in (custom.get("labels") or {}).items():
        found.append(("label", {"label": name}, value))
    for pair in custom.get("qa") or []:
        found.append(("qa", {"question": pair["question"]}, pair["answer"]))
    for kind, fields, answer in found:
        if answer and kind in kinds:
            wording = WORDINGS[kind][int(draw(len(WORDINGS[kind])))]
            yield Example(kind, wording.format(**fields), str(answer))
