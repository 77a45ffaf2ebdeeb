"""N-gram language models: ARPA files, their scores, and their acceptor G as OpenFst text."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from uas_plugin.errors import UASError

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
LN10 = math.log(10.0)
Words = tuple[str, ...]


@dataclass(frozen=True)
class NGram:
    """A backoff model.

    Args:
        order: of its longest n-grams. grams: words -> log-probability of the last one given the
            others, and log of the backoff weight (nats).
    """

    order: int
    grams: Mapping[Words, tuple[float, float]]

    def context(self, words: Words) -> Words:
        """The longest end of ``words`` that is a history of the model."""
        words = words[len(words) - self.order + 1 :] if self.order > 1 else ()
        while words and words not in self.grams:
            words = words[1:]
        return words

    def log_prob(self, history: Words, word: str) -> float:
        """Log-probability (nats) of ``word``; of an unknown one, that of ``<unk>`` or -inf."""
        history, penalty = self.context(history), 0.0
        while (*history, word) not in self.grams:
            if not history:
                return penalty + self.grams.get((UNKNOWN,), (-math.inf, 0.0))[0]
            penalty += self.grams[history][1]
            history = history[1:]
        return penalty + self.grams[(*history, word)][0]

    def score(self, words: Sequence[str]) -> float:
        """Log-probability (nats) of a sentence with its end."""
        said = (BEGIN, *words, END)
        return sum(self.log_prob(said[:i], said[i]) for i in range(1, len(said)))


def read_arpa(path: str | os.PathLike[str]) -> NGram:
    """Read an ARPA file.

    Raises:
        UASError: it is missing, or a line of it is not of the format.
    """
    if not Path(path).exists():
        raise UASError(f"no n-gram model {path}: `uas ctc ngram` makes one from a text")
    grams: dict[Words, tuple[float, float]] = {}
    order = 0
    with open(path, encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            line = line.strip()
            if head := re.fullmatch(r"\\(\d+)-grams:", line):
                order = int(head[1])
            elif line == "\\end\\":
                if not order:
                    break
                return NGram(order, grams)
            elif line and order:
                grams.update([_entry(line, order, f"{path}:{number}")])
    raise UASError(f"{path} is no whole ARPA file: \\N-grams: sections and \\end\\ are needed")


def _entry(line: str, order: int, place: str) -> tuple[Words, tuple[float, float]]:
    fields = line.split()
    try:
        backoff = float(fields[order + 1]) if len(fields) == order + 2 else 0.0
        if len(fields) not in (order + 1, order + 2):
            raise ValueError
        return tuple(fields[1 : order + 1]), (float(fields[0]) * LN10, backoff * LN10)
    except ValueError:
        raise UASError(f"{place}: a probability, {order} words and a backoff belong here") from None


def grammar_fst(model: NGram, words: Mapping[str, int], backoff: int) -> Iterator[str]:
    """Lines of G as OpenFst text: source, destination, word, word, cost (nats).

    A state is a history. Words that are not in ``words`` are left out. ``backoff`` labels the arcs
    to shorter histories, which is what makes the graph deterministic (#0 in Kaldi).
    """
    contexts = [(), *(gram for gram in model.grams if len(gram) < model.order)]
    contexts = [c for c in dict.fromkeys(contexts) if END not in c and _known(c, words)]
    start = model.context((BEGIN,))
    state = {context: n for n, context in enumerate([start, *(c for c in contexts if c != start)])}
    finals = []
    for context, source in state.items():
        if context:
            shorter = context[1:]  # every history is an n-gram of the model, as are its ends
            while shorter not in state:
                shorter = shorter[1:]
            cost = -model.grams.get(context, (0.0, 0.0))[1]
            yield f"{source}\t{state[shorter]}\t{backoff}\t{backoff}\t{cost:.7f}"
    for gram, (log_prob, _) in model.grams.items():
        history, word = gram[:-1], gram[-1]
        if history not in state or log_prob <= -90 * LN10 or word == BEGIN:
            continue  # log10 -99 stands for "never"
        source = state[history]
        if word == END:
            finals.append(f"{source}\t{-log_prob:.7f}")
        elif word in words:
            target = model.context(gram)
            while target not in state:
                target = target[1:]
            yield f"{source}\t{state[target]}\t{words[word]}\t{words[word]}\t{-log_prob:.7f}"
    yield from finals


def _known(context: Words, words: Mapping[str, int]) -> bool:
    return all(
        word in words or (place == 0 and word == BEGIN) for place, word in enumerate(context)
    )


def estimate(sentences: Iterable[Sequence[str]], order: int) -> NGram:
    """A model with Witten-Bell discounting, interpolated (small texts; large ones want KenLM).

    p(w | h) = (c(h w) + t(h) p(w | h')) / (c(h) + t(h)), t(h) = number of different words behind
    h; the shortest history mixes with the uniform distribution over the vocabulary.

    Raises:
        UASError: there is no text, or the order is below 1.
    """
    counts: dict[Words, dict[str, int]] = {}
    for words in sentences:
        said = (BEGIN, *words, END)
        for at in range(1, len(said)):
            for length in range(min(order, at + 1)):
                following = counts.setdefault(said[at - length : at], {})
                following[said[at]] = following.get(said[at], 0) + 1
    if not counts or order < 1:
        raise UASError("an n-gram model needs some text and an order of 1 or more")
    probability: dict[Words, float] = {}
    grams: dict[Words, tuple[float, float]] = {(BEGIN,): (-99 * LN10, 0.0)}
    uniform = 1 / len(counts[()])
    for history in sorted(counts, key=len):
        following = counts[history]
        kinds, total = len(following), sum(following.values())
        for word, count in following.items():
            lower = probability[(*history[1:], word)] if history else uniform
            probability[(*history, word)] = (count + kinds * lower) / (total + kinds)
            grams[(*history, word)] = (math.log(probability[(*history, word)]), 0.0)
        if history:
            # what is left for other words is kinds / (total + kinds) of the shorter history
            grams[history] = (grams[history][0], math.log(kinds / (total + kinds)))
    return NGram(order, grams)


def arpa_lines(model: NGram) -> Iterator[str]:
    """The lines of a model's ARPA file."""
    by_order = {
        n: sorted(gram for gram in model.grams if len(gram) == n) for n in range(1, model.order + 1)
    }
    yield "\\data\\"
    yield from (f"ngram {n}={len(grams)}" for n, grams in by_order.items())
    for n, grams in by_order.items():
        yield ""
        yield f"\\{n}-grams:"
        for gram in grams:
            log_prob, backoff = model.grams[gram]
            tail = f"\t{backoff / LN10:.6f}" if n < model.order and gram[-1] != END else ""
            yield f"{log_prob / LN10:.6f}\t{' '.join(gram)}{tail}"
    yield ""
    yield "\\end\\"
