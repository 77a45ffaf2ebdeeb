"""Choosing among the sentences of a lattice by what another model thinks of their texts.

A language model that must read a whole text cannot be composed with a lattice; as in icefall's
``rescore_with_attention_decoder``, its best sentences are drawn (``uas ctc decode --nbest``) and
scored one by one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from uas_plugin.atomic import read_jsonl
from uas_plugin.errors import UASError

# id and its texts -> log-probability (nats) of each text
TextScorer = Callable[[str, Sequence[str]], Sequence[float]]


def scored(rows: Iterable[Mapping[str, Any]], scorer: TextScorer) -> Iterator[dict[str, Any]]:
    """Rows of n-best lists with each hypothesis's ``text_score``, in their order.

    Raises:
        UASError: the scorer does not give a number for each text.
    """
    for row in rows:
        texts = [hypothesis["text"] for hypothesis in row["hypotheses"]]
        scores = list(scorer(row["id"], texts)) if texts else []
        if len(scores) != len(texts):
            raise UASError(f"{row['id']}: {len(scores)} scores for {len(texts)} texts")
        pairs = zip(row["hypotheses"], scores, strict=True)
        yield {**row, "hypotheses": [{**h, "text_score": value} for h, value in pairs]}


def weighted(
    rows: Iterable[Mapping[str, Any]], *, am_scale: float, lm_scale: float, text_scale: float
) -> Iterator[dict[str, Any]]:
    """The rows of :func:`scored` by ``score``, best first.

    score = am_scale * am + lm_scale * lm + text_scale * text_score.
    """
    for row in rows:
        hypotheses = [
            {
                **h,
                "score": am_scale * h["am"] + lm_scale * h["lm"] + text_scale * h["text_score"],
            }
            for h in row["hypotheses"]
        ]
        yield {**row, "hypotheses": sorted(hypotheses, key=lambda h: -h["score"])}


def file_scorer(path: str | os.PathLike[str]) -> TextScorer:
    """Scores from JSON lines ``{"id", "text", "score"}`` that any model may have written.

    Raises:
        UASError: there is no such file, or (when asked) no score for a text.
    """
    if not Path(path).exists():
        raise UASError(f'no scores {path}: JSON lines {{"id", "text", "score"}}')
    table = {(row["id"], row["text"]): float(row["score"]) for row in read_jsonl(path)}

    def score(name: str, texts: Sequence[str]) -> list[float]:
        missing = [text for text in texts if (name, text) not in table]
        if missing:
            raise UASError(f"{path} has no score for '{missing[0]}' of {name}")
        return [table[name, text] for text in texts]

    return score


def ngram_scorer(path: str | os.PathLike[str]) -> TextScorer:
    """Scores of an n-gram model (ARPA), such as one too large for a graph."""
    from uas_plugin.ctc.arpa import read_arpa

    model = read_arpa(path)
    return lambda _name, texts: [model.score(text.split()) for text in texts]


def audiollm_scorer(llm: Any, tokens: Mapping[str, Any] | None = None) -> TextScorer:
    """Log-probability (nats) that an AudioLLM transcribes just a text, its end included.

    Args:
        llm: from ``uas_plugin.load_audiollm``. tokens: audio tokens ``(T,)`` by id; without, the
            model is asked for a transcription without audio: a prior of the text.

    Raises:
        UASError: (when asked) an id without tokens, or an empty text.
    """
    from uas_plugin.audiollm.chat import asr_messages

    def score(name: str, texts: Sequence[str]) -> list[float]:
        if tokens is not None and name not in tokens:
            raise UASError(f"{name} has no audio tokens: dump them with the model's tokenizer")
        heard = None if tokens is None else tokens[name]
        return llm.score_choices([asr_messages(heard)], [list(texts)], whole=True)[0]

    return score
