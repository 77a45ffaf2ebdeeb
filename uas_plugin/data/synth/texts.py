"""What is said: English commands of a small grammar, digit strings, Mandarin commands.

The sentences of a language are dealt to train, dev and test once and for all (they do not depend
on how much of each is asked for), so that no test sentence is ever trained on.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

_DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_ROOMS = ["kitchen", "bedroom", "garage", "office"]
_DEVICES = ["light", "fan", "heater", "radio"]
_COLOURS = ["red", "blue", "green", "white", "black", "small"]
_OBJECTS = ["door", "window", "box", "cup", "table", "chair"]
_PLURALS = ["books", "pens", "shoes", "apples"]
_NAMES = ["mary", "john", "peter", "anna"]
_TIMES = ["now", "today", "tomorrow", "tonight"]
_WAYS = ["left", "right", "forward", "back"]

# Each template is a tuple of alternatives, one list a slot.
ENGLISH: tuple[tuple[list[str], ...], ...] = (
    (["turn"], ["on", "off"], ["the"], _ROOMS, _DEVICES),
    (["open", "close", "clean", "move"], ["the"], _COLOURS, _OBJECTS),
    (["bring", "give", "show"], ["me"], _DIGITS[2:], _COLOURS, _PLURALS),
    (["move", "walk"], _DIGITS[2:], ["steps"], _WAYS),
    (["call"], _NAMES, _TIMES),
    (["play some"], ["quiet", "happy", "loud", "old"], ["music in the"], _ROOMS),
    (["set the"], _ROOMS, _DEVICES, ["to"], _DIGITS[1:]),
)
MANDARIN: tuple[tuple[list[str], ...], ...] = (
    (
        ["打开", "关上", "检查"],
        ["客厅", "厨房", "卧室", "书房"],
        ["的"],
        ["灯", "门", "窗户", "电视"],
    ),
    (["请给我", "我要"], ["一", "两", "三", "四", "五"], ["杯茶", "杯水", "本书"]),
    (["向"], ["左", "右", "前", "后"], ["走"], ["一", "两", "三", "四", "五"], ["步"]),
    (["现在", "明天"], ["打电话给"], ["妈妈", "爸爸", "老师"]),
)
# Of each template, these shares are for test and dev, the rest for train.
_TEST_SHARE, _DEV_SHARE = 0.22, 0.10


def _expand(template: tuple[list[str], ...], joiner: str) -> list[str]:
    return [joiner.join(words) for words in itertools.product(*template)]


def _deal(
    templates: tuple[tuple[list[str], ...], ...], joiner: str, rng: np.random.Generator
) -> dict[str, list[list[str]]]:
    """Shuffle the sentences of each template and deal them to the splits."""
    dealt: dict[str, list[list[str]]] = {"train": [], "dev": [], "test": []}
    for template in templates:
        sentences = _expand(template, joiner)
        rng.shuffle(sentences)
        test = max(1, round(_TEST_SHARE * len(sentences)))
        dev = max(1, round(_DEV_SHARE * len(sentences)))
        dealt["test"].append(sentences[:test])
        dealt["dev"].append(sentences[test : test + dev])
        dealt["train"].append(sentences[test + dev :])
    return dealt


def _cycle(pools: list[list[str]], rng: np.random.Generator) -> Iterator[str]:
    """Draw without repetition, small templates more often than by size; then begin again."""
    while True:
        left = [list(pool) for pool in pools]
        while any(left):
            weights = np.sqrt([len(pool) for pool in left])
            yield left[int(rng.choice(len(left), p=weights / weights.sum()))].pop()


def _digit_strings(split: str, rng: np.random.Generator) -> Iterator[str]:
    """Three to six digits; the sum of the digits modulo 10 says to which split a string belongs."""
    share = {"test": (0, 1), "dev": (2,), "train": (3, 4, 5, 6, 7, 8, 9)}[split]
    while True:
        digits = rng.integers(0, 10, int(rng.integers(3, 7)))
        if int(digits.sum()) % 10 in share:
            yield " ".join(_DIGITS[digit] for digit in digits)


def text_sources(seed: int, split: str) -> dict[str, Iterator[str]]:
    """Endless texts of a split: keys "english", "mandarin", "digits".

    Two splits never give the same text. English and Mandarin come once each before any repeats.
    """
    dealing = np.random.default_rng([seed, 1])  # the same for every split
    english, mandarin = _deal(ENGLISH, " ", dealing), _deal(MANDARIN, "", dealing)
    number = ("train", "dev", "test").index(split)
    return {
        "english": _cycle(english[split], np.random.default_rng([seed, 2, number])),
        "mandarin": _cycle(mandarin[split], np.random.default_rng([seed, 3, number])),
        "digits": _digit_strings(split, np.random.default_rng([seed, 4, number])),
    }
