"""What a benchmark is: files, items, questions, and the score of one answer.

A benchmark's own module says where its files come from, how they are read, what is asked, and how
an answer is scored by each protocol. Running, storing and adding up are the same for all
(:mod:`uas_plugin.evaluation.runs`).
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from uas_plugin.errors import UASError, suggest
from uas_plugin.evaluation.models.base import Kind, Query
from uas_plugin.metrics.wer import WordErrors

Protocol = Literal["uas", "official"]
Metric = Literal["accuracy", "wer", "cer"]
#: ``uas``: as the UAS paper evaluates (papers' section 3.6). ``official``: the benchmark's script.
PROTOCOLS: tuple[Protocol, ...] = ("uas", "official")


@dataclasses.dataclass(frozen=True)
class ItemScore:
    """The score of one answer.

    Attributes:
        answer: what the protocol takes out of the response; None where it finds nothing.
        correct: the protocol's verdict; of a transcription: whether it has no error.
        parsed: whether the answer names an option at all. One that does not is wrong, and counted.
        choice: the option that was named (its index), where that is known.
        words: counts of a transcription.
    """

    answer: str | None
    correct: bool
    parsed: bool = True
    choice: int | None = None
    words: WordErrors | None = None


@dataclasses.dataclass(frozen=True)
class Item:
    """One entry of a benchmark.

    Attributes:
        id: unique in the benchmark.
        entry: as it stands in the benchmark's own file.
        audio: its recording; None where nothing is heard (text to speech).
        groups: axis -> value, for the columns of tables: ``{"task": "speech", ...}``.
    """

    id: str
    entry: Mapping[str, Any]
    audio: Path | None
    groups: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Download:
    """Something to fetch by hand: ``what`` from ``url``, so that ``place`` exists in the folder."""

    what: str
    url: str
    place: str


@dataclasses.dataclass(frozen=True)
class Prompt:
    """How the question is put into words; ``text`` has gaps in braces, and is what is hashed."""

    name: str
    text: str


class Benchmark(abc.ABC):
    """A benchmark. Its class attributes are its facts.

    Attributes:
        name: as in ``uas evaluate NAME``. title: for tables. version: what the files are.
        kind: what is asked. downloads: where its files come from.
        axes: names of the groups of its items, the main one first.
        columns: ``(heading, axis, value)`` of the papers' table; axis ``all`` is every item.
        metric: ``accuracy``, or the error rate ``wer`` or ``cer``.
        prompts: the main one first.
        max_new_tokens: of an answer, as the protocol has it.
        language: of all items, where they have one.
    """

    name: str
    title: str
    version: str
    kind: Kind = "choice"
    downloads: tuple[Download, ...] = ()
    axes: tuple[str, ...] = ()
    columns: tuple[tuple[str, str, str], ...] = (("all", "all", "all"),)
    metric: Metric = "accuracy"
    prompts: tuple[Prompt, ...] = ()
    max_new_tokens: int = 4096
    language: str | None = None
    #: What scoring depends on beside the protocol; stored with a run.
    parsers: Mapping[Protocol, str] = {}

    @abc.abstractmethod
    def files(self, folder: Path) -> list[Path]:
        """The files that hold questions and answers (not the audio); their hash is stored.

        Raises:
            UASError: one is missing: what to download, from where, and where to put it.
        """

    @abc.abstractmethod
    def items(self, folder: Path) -> Iterator[Item]:
        """The items, read one after the other.

        Raises:
            UASError: a file is missing or malformed (the entry is named).
        """

    @abc.abstractmethod
    def query(self, item: Item, *, prompt: Prompt, constrained: bool, seed: int) -> Query:
        """The question about ``item`` to a model."""

    @abc.abstractmethod
    def score_item(
        self,
        item: Mapping[str, Any],
        response: str,
        protocol: Protocol = "uas",
        *,
        thinking: bool = False,
    ) -> ItemScore:
        """Score one response.

        Args:
            item: the entry as in the benchmark's own file.
            response: the whole text that the model wrote.
            protocol: whose rules.
            thinking: leave out everything up to the first ``</think>``.

        Raises:
            UASError: the entry is malformed, or the protocol unknown.
        """

    def reference(self, item: Item) -> str:
        """The right answer, in the words in which an adapter is to give it."""
        raise UASError(f"{self.name} has no answer that could be told in advance")

    def choices(self, entry: Mapping[str, Any]) -> tuple[str, ...]:
        """Texts of the options of an entry; none where nothing is chosen."""
        return ()

    def chance(self, entry: Mapping[str, Any]) -> float | None:
        """Probability that a uniform guess is right; None where nothing can be guessed."""
        return None

    def said(self, choices: Sequence[str], index: int) -> str:
        """How an option is named so that the protocol understands it."""
        return choices[index]

    def prompt(self, name: str | None) -> Prompt:
        """The prompt of that name; the main one when None.

        Raises:
            UASError: there is no such prompt.
        """
        names = [prompt.name for prompt in self.prompts]
        if name is None:
            return self.prompts[0]
        if name not in names:
            raise UASError(f"{self.name}: unknown prompt '{name}'.{suggest(name, names)} "
                           f"It has {', '.join(names)}")  # fmt: skip
        return self.prompts[names.index(name)]

    def missing(self, path: Path) -> UASError:
        """The error of a missing file: all that must be fetched, and where it goes."""
        steps = "; ".join(f"{d.what} from {d.url} as {d.place}" for d in self.downloads)
        return UASError(f"{self.title}: there is no {path}. Put into the folder of --data: {steps}")


def known_protocol(protocol: str) -> None:
    """Raise UASError for a protocol that is not one of :data:`PROTOCOLS`."""
    if protocol not in PROTOCOLS:
        raise UASError(f"unknown protocol '{protocol}': take {' or '.join(PROTOCOLS)}")


def field_of(entry: Mapping[str, Any], name: str, benchmark: str) -> Any:
    """A field that every entry has.

    Raises:
        UASError: it is not there (the entry's id and the field are named).
    """
    if name not in entry:
        raise UASError(f"{benchmark}: item {entry.get('id', '?')!r} has no field '{name}'")
    return entry[name]


def text_of(entry: Mapping[str, Any], name: str, benchmark: str) -> str:
    """A field whose text must not be empty, such as the right answer.

    Raises:
        UASError: it is not there, or blank.
    """
    text = str(field_of(entry, name, benchmark))
    if not text.strip():
        raise UASError(f"{benchmark}: item {entry.get('id', '?')!r} has an empty '{name}'")
    return text
