"""Which clip of a set answers which: spoken questions with spoken replies.

UAS-Audio learns speech chat from dialogues (arXiv 2604.12506, section 3.2) that are not published.
A corpus with dialogues names its pairs in a file; of any other, a clip can be said again.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uas_plugin.atomic import read_jsonl
from uas_plugin.audiollm.interleave import fits_slots
from uas_plugin.audiollm.options import SpeechChatOptions
from uas_plugin.data.manifests import custom_of
from uas_plugin.data.sampling import seeded
from uas_plugin.data.targets import asr_target
from uas_plugin.data.text import TextTokenizer
from uas_plugin.errors import UASError


@dataclass(frozen=True)
class Reply:
    """What is said: its text, and the codebook entries ``(n,)`` of the clip that says it."""

    text: str
    codes: np.ndarray


@dataclass(frozen=True)
class _Spoken:
    text: str
    speaker: str | None
    kind: str | None


def find_replies(
    cuts: Iterable[Any],
    tokens: Mapping[str, np.ndarray],
    text: TextTokenizer,
    options: SpeechChatOptions,
) -> dict[str, Reply]:
    """The reply to each question of a set, by the question's cut id; empty when it is turned off.

    Pairs whose audio would be over before the text (see ``interleave``) are left out and counted.

    Raises:
        UASError: the file of pairs is missing or damaged, or names an answer that the set lacks.
    """
    if not options.wanted:
        return {}
    spoken = {
        cut.id: _Spoken(said, cut.supervisions[0].speaker, custom_of(cut).get("kind"))
        for cut in cuts
        if cut.id in tokens and (said := asr_target(cut))
    }
    pairs = _said_again(spoken, options.kinds)
    if options.replies is not None:
        pairs |= _named(Path(options.replies), spoken)
    found = {
        question: Reply(spoken[answer].text, tokens[answer])
        for question, answer in pairs.items()
        if fits_slots(len(text.encode(spoken[answer].text)), len(tokens[answer]), options.slots)
    }
    if len(found) < len(pairs):
        logging.warning(
            "speech chat: %d of %d replies are left out: their audio is over before their text",
            len(pairs) - len(found), len(pairs),
        )  # fmt: skip
    return found


def _said_again(spoken: Mapping[str, _Spoken], kinds: Iterable[str]) -> dict[str, str]:
    """Each clip of ``kinds`` with one of the same words, by another voice if there is one."""
    wanted, same = set(kinds), defaultdict(list)
    for name, said in spoken.items():
        if said.kind in wanted:
            same[said.text].append(name)
    pairs = {}
    for names in same.values():
        for name in names:
            others = [n for n in names if spoken[n].speaker != spoken[name].speaker]
            chosen = int(seeded("reply", name).integers(len(others))) if others else 0
            pairs[name] = others[chosen] if others else name
    return pairs


def _named(path: Path, spoken: Mapping[str, _Spoken]) -> dict[str, str]:
    """The pairs of a file whose questions are in this set."""
    if not path.is_file():
        raise UASError(f"lm.data.speech_chat.replies: {path} is missing")
    pairs = {}
    for row in read_jsonl(path):
        if not {"question", "answer"} <= set(row):
            raise UASError(f"{path}: a line is {{'question': cut id, 'answer': cut id}}, not {row}")
        if row["question"] not in spoken:
            continue  # of another set
        if row["answer"] not in spoken:
            raise UASError(
                f"{path}: {row['answer']}, the answer to {row['question']}, is no clip with words "
                "and tokens in the same set"
            )
        pairs[row["question"]] = row["answer"]
    return pairs
