"""100,000 mutated texts: nothing but SchemaError, no hang, no value outside the vocabularies."""

from __future__ import annotations

import random
import time

import pytest
from made_annotations import SOUND, SPEECH

from uas_plugin import schema
from uas_plugin.schema.text import MAX_DEPTH, MAX_TEXT

INPUTS = 100_000
LONGEST_S = 2.0  # processor seconds of one text
PIECES = [
    "{", "}", "[", "]", ",", ":", '"', "\\", "\\u", "\\ud800", "null", "true", "NaN", "-1e999",
    "9" * 40, "```json", "```", " ", "\n", "\x00", "\ufdd0cut", "é", "灯", '"label"',
    '"age": "Adult"',
    '"emotion": "purple"', '"gender": "Robot"', '"transcription": null', "[]", "{}", "summary",
    '{"label": "rain", "characteristic": null}',
]  # fmt: skip


def mutated(text: str, rng: random.Random) -> str:
    """A few cuts, doublings, swaps and insertions."""
    for _ in range(rng.randint(1, 4)):
        at, end = sorted((rng.randrange(len(text) + 1), rng.randrange(len(text) + 1)))
        match rng.randrange(7):
            case 0:
                text = text[:end]
            case 1:
                text = text[:at] + text[min(end, at + rng.randint(1, 12)) :]
            case 2:
                text = text[:at] + text[at:end] * 2 + text[end:]
            case 3:
                text = text[at:end] + text[:at] + text[end:]
            case 4 | 5:
                text = text[:at] + rng.choice(PIECES) + text[at:]
            case 6 if text:
                at = rng.randrange(len(text))
                text = (
                    text[:at]
                    + chr(rng.choice([34, 44, 58, rng.randrange(32, 127)]))
                    + text[at + 1 :]
                )
    return text


def accepted(text: str) -> int:
    """How many of the two readers took it; what they took must be a schema."""
    count = 0
    for read in (schema.parse, lambda given: schema.repair(given)[0]):
        try:
            result = read(text)
        except schema.SchemaError as error:
            assert error.reason
            continue
        count += 1
        voice = result.paralinguistics
        if voice is not None:
            assert result.transcription is not None
            assert voice.age in (None, *schema.AGES)
            assert voice.gender in (None, *schema.GENDERS)
            assert voice.emotion in (None, *schema.EMOTIONS)
    return count


@pytest.mark.slow
def test_mutated_texts() -> None:
    rng = random.Random(5)
    taken = [0, 0, 0]
    longest = 0.0
    for number in range(INPUTS):
        text = mutated(SPEECH if number % 2 else SOUND, rng)
        start = time.process_time()
        taken[accepted(text)] += 1
        longest = max(longest, time.process_time() - start)
    assert longest < LONGEST_S
    # The mutations must leave something to read, or the test would say nothing.
    assert min(taken) > INPUTS // 100, taken


SIZE = MAX_TEXT - 100


@pytest.mark.parametrize(
    "text",
    [
        '{"a"' + "}" * (SIZE // 2) + "{" * (SIZE // 2),
        '{"transcription": ' + '"' * SIZE,
        '{"transcription": "' + "\\" * SIZE,
        '{"transcription": "' + 'x", "' * (SIZE // 5),
        '{"transcription": [' + "1," * (SIZE // 2),
        '{"transcription": [' + "{}," * (SIZE // 3),
        "{" + "," * SIZE,
        "{" + ", " * (SIZE // 2),
        "```" * (SIZE // 3) + "{",
        "{" + "```" * (SIZE // 3),
        "{" * SIZE,
        '{"a":' * (SIZE // 5),
        "[" * (MAX_DEPTH + 1) + "{}",
        '{"transcription": ' + "9" * SIZE,
        SPEECH[:-2] + " " * SIZE,
        SPEECH * (SIZE // len(SPEECH)),
        SPEECH.replace("[]", "[" + '{"label": "a", "characteristic": null}, ' * 6000 + "]"),
    ],
    ids=map(str, range(17)),
)
def test_large_texts_take_no_longer(text: str) -> None:
    assert MAX_TEXT // 100 < len(text) <= MAX_TEXT + 1000 or len(text) < 100
    start = time.process_time()
    accepted(text)
    assert time.process_time() - start < LONGEST_S
