"""Questions of which the text gives nothing away.

Clips with different values of one field are put into groups. All clips of a group get the *same*
multiple-choice question with the same options in the same order, and for each another option is
right; in the same manner each value is claimed (true or false) once of a clip for which it is true
and once of one for which it is not. So whoever reads only the text is right for exactly one clip of
each group, whatever he knows about frequencies: 1 / options, and 1 / 2 for claims. The right answer
stands in each place equally often, for the same reason. The wrong options are true values of other
clips, drawn as often as they occur.

A clip for which no partner with another value is left has only open questions; these clips are
counted.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from uas_plugin.data.sampling import seeded
from uas_plugin.errors import UASError, suggest
from uas_plugin.qa.facts import Fact, facts
from uas_plugin.qa.wording import (
    ASK,
    CLAIMS,
    FIELDS,
    LETTERS,
    STEMS,
    TRUE_FALSE,
    contains,
    fold,
    overlap,
)
from uas_plugin.schema import UnifiedAudioSchema

FORMS = ("direct", "choice", "true_false")
Form = Literal["direct", "choice", "true_false"]
_TRIES = 4  # clips of one value that are tried as a partner
_CANDIDATES = 32  # values that are tried for one group


@dataclass(frozen=True, kw_only=True)
class QuestionOptions:
    """What to ask.

    Attributes:
        forms: of FORMS.
        fields: of FIELDS.
        choices: options of a multiple-choice question; fewer where a field has fewer values.
        seed: of wording, grouping and order.
        window: clips of one field that may wait for partners (bounds the memory).
    """

    forms: tuple[str, ...] = FORMS
    fields: tuple[str, ...] = FIELDS
    choices: int = 4
    seed: int = 0
    window: int = 4096

    def __post_init__(self) -> None:
        for names, known, what in (
            (self.forms, FORMS, "form"),
            (self.fields, FIELDS, "field"),
        ):
            for name in names:
                if name not in known:
                    raise UASError(f"unknown {what} '{name}'.{suggest(name, known)}")
        if not 2 <= self.choices <= len(LETTERS):
            raise UASError(f"choices: {self.choices} is not from 2 to {len(LETTERS)}")
        if self.window < 2 * self.choices:
            raise UASError(f"window: {self.window} holds no two groups")


@dataclass(frozen=True)
class Clip:
    """The clip that is asked about. ``part``: start and duration in the file, of a part of it."""

    id: str
    audio: str = ""
    kind: str = ""
    part: tuple[float, float] | None = None


@dataclass(frozen=True)
class Item:
    """One question. ``choices`` is empty for an open one; ``answer`` is the text, not a letter."""

    id: str
    clip: Clip
    form: Form
    field: str
    question: str
    choices: tuple[str, ...]
    answer: str


Member = tuple[Clip, Fact]


class _Pool:
    """Clips that wait for partners, of one field (and, of characteristics, one label)."""

    def __init__(self) -> None:
        self.waiting: dict[str, deque[Member]] = {}
        self.size = 0
        self.draws = 0

    def add(self, member: Member) -> None:
        self.waiting.setdefault(fold(member[1].value), deque()).append(member)
        self.size += 1

    def _take(self, value: str, index: int) -> Member:
        queue = self.waiting[value]
        member = queue[index]
        del queue[index]
        if not queue:
            del self.waiting[value]
        self.size -= 1
        return member

    def drop(self) -> None:
        """Leave out the oldest clip of the most frequent value."""
        self._take(max(self.waiting, key=lambda value: len(self.waiting[value])), 0)

    def group(self, most: int, rng: np.random.Generator) -> list[Member]:
        """Up to ``most`` clips with values that exclude one another; one of the most frequent.

        That one comes alone when it has no partner. The others are drawn by frequency.
        """
        names = list(self.waiting)
        counts = np.array([len(self.waiting[name]) for name in names], dtype=float)
        first = int(counts.argmax())
        rest = [i for i in range(len(names)) if i != first]
        order: list[int] = []
        if rest:
            shares = counts[rest] / counts[rest].sum()
            few = min(len(rest), _CANDIDATES)
            order = [int(i) for i in rng.choice(rest, size=few, replace=False, p=shares)]
        members = [self._take(names[first], 0)]
        for i in order:
            if len(members) == most:
                break
            queue = self.waiting[names[i]]
            for index in range(min(_TRIES, len(queue))):
                if all(_exclusive(queue[index][1], fact) for _, fact in members):
                    members.append(self._take(names[i], index))
                    break
        return members


def _exclusive(first: Fact, second: Fact) -> bool:
    """Whether the value of neither is true of the other's clip."""
    return not any(overlap(first.value, true) for true in (second.value, *second.also)) and not any(
        overlap(second.value, true) for true in first.also
    )


class QuestionMaker:
    """Makes the questions of a stream of clips; the same stream and options give the same ones.

    ``left_over`` counts, by field, clips without a partner; ``unasked`` those whose questions would
    have held their answer in every wording.
    """

    def __init__(self, options: QuestionOptions | None = None) -> None:
        self.options = options or QuestionOptions()
        self.left_over: Counter[str] = Counter()
        self.unasked: Counter[str] = Counter()
        self._pools: dict[tuple[str, str], _Pool] = {}

    def add(self, clip: Clip, schema: UnifiedAudioSchema) -> Iterator[Item]:
        """The questions that can be asked now that this clip is known."""
        for fact in facts(schema):
            if fact.field not in self.options.fields:
                continue
            if "direct" in self.options.forms and fact.whole is not None:
                yield from self._direct(clip, fact, fact.whole)
            if set(self.options.forms) - {"direct"}:
                key = (fact.field, fold(fact.about))
                pool = self._pools.setdefault(key, _Pool())
                pool.add((clip, fact))
                if pool.size >= self.options.window:
                    yield from self._drain(key, pool, self.options.window // 2)

    def finish(self) -> Iterator[Item]:
        """The questions of all clips that still wait."""
        for key, pool in self._pools.items():
            yield from self._drain(key, pool, 0)
        self._pools.clear()

    def _drain(self, key: tuple[str, str], pool: _Pool, keep: int) -> Iterator[Item]:
        while pool.size > keep:
            rng = seeded("qa", self.options.seed, *key, pool.draws)
            pool.draws += 1
            members = pool.group(self.options.choices, rng)
            if len(members) < 2:
                self.left_over[key[0]] += 1
                continue
            members = [members[i] for i in rng.permutation(len(members))]
            if "choice" in self.options.forms:
                yield from self._choice(members, rng)
            if "true_false" in self.options.forms:
                yield from self._claims(members, rng)

    def _stem(self, fact: Fact, answers: Iterable[str], rng: np.random.Generator) -> str | None:
        """A wording that holds none of ``answers``."""
        forms = STEMS[fact.field]
        answers = list(answers)
        for i in rng.permutation(len(forms)):
            stem = forms[i].replace("{about}", fact.about)
            if not any(contains(stem, answer) for answer in answers):
                return stem
        return None

    def _direct(self, clip: Clip, fact: Fact, answer: str) -> Iterator[Item]:
        rng = seeded("direct", self.options.seed, clip.id, fact.field, fact.number)
        stem = self._stem(fact, [answer, fact.value], rng)
        if stem is None:
            self.unasked[fact.field] += 1
        else:
            yield Item(_name(clip, fact, "direct"), clip, "direct", fact.field, stem, (), answer)

    def _choice(self, members: Sequence[Member], rng: np.random.Generator) -> Iterator[Item]:
        values = tuple(fact.value for _, fact in members)
        stem = self._stem(members[0][1], values, rng)
        if stem is None:
            self.unasked[members[0][1].field] += len(members)
            return
        for clip, fact in members:
            name = _name(clip, fact, "choice")
            yield Item(name, clip, "choice", fact.field, stem, values, fact.value)

    def _claims(self, members: Sequence[Member], rng: np.random.Generator) -> Iterator[Item]:
        """Of each clip its own value and that of the clip before it."""
        for number, (_, fact) in enumerate(members):
            forms = CLAIMS[fact.field]
            claim = forms[int(rng.integers(len(forms)))]
            # The value last: it may itself hold "{about}".
            claim = claim.replace("{about}", fact.about).replace("{value}", fact.value)
            stem = f"{claim} {ASK[int(rng.integers(len(ASK)))]}"
            order = [TRUE_FALSE[i] for i in rng.permutation(2)]
            if any(contains(stem, answer) for answer in TRUE_FALSE):
                self.unasked[fact.field] += 2
                continue
            for at, answer in ((number, "True"), (number - 1, "False")):
                clip, own = members[at]
                # Of the clip's two claims the first in the alphabet is .0: a name tells no answer.
                both = sorted((own.value, members[(at + 1) % len(members)][1].value))
                name = f"{_name(clip, own, 'true_false')}.{both.index(fact.value)}"
                yield Item(name, clip, "true_false", fact.field, stem, tuple(order), answer)


def _name(clip: Clip, fact: Fact, form: str) -> str:
    return f"{clip.id}.{fact.field}.{fact.number}.{form}"
