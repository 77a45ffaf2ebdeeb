"""Lexicon, n-gram model and the graph made of them; decoding with it against every sentence."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uas_plugin.ctc import arpa, graph, lexicon, run
from uas_plugin.ctc.backend import Backend
from uas_plugin.ctc.portable import torch_search
from uas_plugin.errors import UASError

WORDS = ("ab", "a", "ba", "c")
SENTENCES = ("ab c", "a ba c", "ab ab c", "ba a", "c c ab", "a", "ab c")
sentences = st.lists(
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=5), min_size=1, max_size=8
)


@settings(max_examples=30, deadline=None)
@given(sentences, st.integers(1, 4), st.lists(st.sampled_from(WORDS), max_size=3))
def test_n_gram_probabilities_sum_to_one(
    texts: list[list[str]], order: int, said: list[str]
) -> None:
    model = arpa.estimate(texts, order)
    seen = {word for text in texts for word in text} | {arpa.END}
    history = (arpa.BEGIN, *(word for word in said if word in seen))
    total = sum(math.exp(model.log_prob(history, word)) for word in seen)
    assert total == pytest.approx(1, abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(texts=sentences, order=st.integers(1, 3))
def test_arpa_files_keep_the_scores(
    tmp_path_factory: pytest.TempPathFactory, texts: list[list[str]], order: int
) -> None:
    model = arpa.estimate(texts, order)
    path = tmp_path_factory.mktemp("arpa") / "g.arpa"
    path.write_text("\n".join(arpa.arpa_lines(model)) + "\n")
    read = arpa.read_arpa(path)
    for text in texts:
        assert read.score(text) == pytest.approx(model.score(text), abs=1e-4)
    assert arpa.read_arpa(path).log_prob((), "unheard") == -math.inf


@settings(max_examples=20, deadline=None)
@given(texts=sentences, order=st.integers(1, 3))
def test_grammar_gives_the_scores_of_the_model(texts: list[list[str]], order: int) -> None:
    """Walk G: from a state, the word's arc if there is one, else the backoff arc."""
    model = arpa.estimate(texts, order)
    words = {word: number for number, word in enumerate(WORDS, 1)}
    arcs: dict[tuple[int, int], tuple[int, float]] = {}
    finals: dict[int, float] = {}
    for line in arpa.grammar_fst(model, words, backoff=9):
        fields = line.split("\t")
        if len(fields) == 2:
            finals[int(fields[0])] = -float(fields[1])
        else:
            source, target, word, _, cost = fields
            assert (int(source), int(word)) not in arcs
            arcs[int(source), int(word)] = (int(target), -float(cost))
    for text in texts:
        state, score = 0, 0.0
        for word in text:
            while (state, words[word]) not in arcs:
                state, weight = arcs[state, 9]
                score += weight
            state, weight = arcs[state, words[word]]
            score += weight
        while state not in finals:
            state, weight = arcs[state, 9]
            score += weight
        assert score + finals[state] == pytest.approx(model.score(text), abs=1e-4)


def test_disambiguation_symbols() -> None:
    entries = [("ab", ("a", "b")), ("A", ("a",)), ("a", ("a",)), ("c", ("c",))]
    assert lexicon.disambiguation(entries) == [0, 1, 2, 0]


def test_wrong_files_are_named(tmp_path: Path) -> None:
    bad = tmp_path / "bad.arpa"
    bad.write_text("\\data\\\n\\1-grams:\n-0.3 a b c d\n\\end\\\n")
    with pytest.raises(UASError, match="bad.arpa:3"):
        arpa.read_arpa(bad)
    bad.write_text("\\data\\\n\\1-grams:\n-0.3 a\n")
    with pytest.raises(UASError, match="no whole ARPA file"):
        arpa.read_arpa(bad)
    words = tmp_path / "lexicon.txt"
    words.write_text("ab a b\nc\n")
    with pytest.raises(UASError, match="lexicon.txt:2: the word c has no tokens"):
        lexicon.read_lexicon(words)


def best_sentence(values: np.ndarray, model: arpa.NGram, spell: Any, scale: float) -> tuple:
    """The best of all sentences of up to 3 words: score and words."""
    said = [words for size in range(1, 4) for words in itertools.product(WORDS, repeat=size)]
    repeated = torch.tensor(values)[None].expand(len(said), -1, -1)
    lengths = torch.full((len(said),), len(values))
    paths = torch_search.align(repeated, lengths, [spell(words) for words in said])
    found = [
        (path["score"] + scale * model.score(words), words)
        for path, words in zip(paths, said)
        if path is not None
    ]
    return max(found)


@pytest.mark.parametrize("marks", ["none", "separator", "pieces"])
def test_decoding_with_a_graph_finds_the_best_sentence(
    k2_backend: Backend, dump: Any, tmp_path: Path, marks: str
) -> None:
    more = {"none": [], "separator": ["<space>"], "pieces": ["_a", "_b", "_c"]}[marks]
    names = ["<blank>", "a", "b", "c", *more]
    ids = {name: number for number, name in enumerate(names)}

    def spell(words: tuple[str, ...]) -> list[int]:
        if marks == "pieces":  # a word's first piece has a mark, but not that of the first word
            rest = [piece for word in words[1:] for piece in (f"_{word[0]}", *word[1:])]
            return [ids[piece] for piece in (*words[0], *rest)]
        joined = " ".join(words) if marks == "separator" else "".join(words)
        return [ids["<space>" if letter == " " else letter] for letter in joined]

    rng = np.random.default_rng(7)
    arrays = []
    for text in SENTENCES:
        labels = [label for token in spell(tuple(text.split())) for label in (token, 0)]
        scores = rng.normal(size=(len(labels), len(names)))
        scores[np.arange(len(labels)), labels] += 1.5
        arrays.append(torch.tensor(scores).log_softmax(dim=1).float().numpy())
    folder = dump(arrays)
    info = run.read_info(folder)
    info["tokens"] = names
    (folder / "info.json").write_text(json.dumps(info))
    model = arpa.estimate([text.split() for text in SENTENCES], 2)
    (tmp_path / "g.arpa").write_text("\n".join(arpa.arpa_lines(model)) + "\n")
    entries, initial, left_out = graph.spell([*WORDS, "xyz"], names, "char")
    assert left_out == ["xyz"]
    if marks == "pieces":
        entries = [(word, (f"_{word[0]}", *word[1:])) for word in WORDS]
    built = graph.build_graph(
        tmp_path / "graph", names, entries, tmp_path / "g.arpa", initial=initial, backend=k2_backend
    )
    assert built["arcs"] > 0
    wide = {"search_beam": 60.0, "output_beam": 30.0, "lm_scale": 0.7}
    rows = run.decode(folder, graph=tmp_path / "graph", backend=k2_backend, **wide)
    many = run.decode(folder, graph=tmp_path / "graph", backend=k2_backend, nbest=4, **wide)
    for values, row, more in zip(arrays, rows, many):
        score, words = best_sentence(values, model, spell, 0.7)
        (best,) = row["hypotheses"]
        said = tuple(best["text"].split())
        if len(said) <= 3:
            assert said == words
        assert best["lm"] == pytest.approx(model.score(said), abs=1e-2)
        exact = torch_search.log_likelihoods(torch.tensor(values), [spell(said)])
        assert best["am"] == pytest.approx(float(exact[0]), abs=1e-3)
        assert best["am"] + 0.7 * best["lm"] >= score - 1e-3  # all paths are more than the best
        scores = [h["score"] for h in more["hypotheses"]]
        assert scores == sorted(scores, reverse=True) and scores[0] >= best["score"] - 1e-6


def test_graph_needs_k2(torch_backend: Backend, dump: Any, tmp_path: Path) -> None:
    (tmp_path / "g.arpa").write_text("\n".join(arpa.arpa_lines(arpa.estimate([["a"]], 1))))
    with pytest.raises(UASError, match="install_k2.sh"):
        graph.build_graph(
            tmp_path / "graph", ["<blank>", "a"], [("a", ("a",))], tmp_path / "g.arpa",
            backend=torch_backend,
        )  # fmt: skip
