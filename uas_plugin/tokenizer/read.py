"""Read tokens with the text decoder that supervised them: schema or transcription from ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from uas_plugin.atomic import read_jsonl
from uas_plugin.data.tokens import read_token_text
from uas_plugin.errors import UASError
from uas_plugin.progress import progress
from uas_plugin.tokenizer.examples import pad_ids
from uas_plugin.tokenizer.seq2seq import TokenizerSeq2Seq
from uas_plugin.tokenizer.vocabulary import DecoderVocabulary, TextUnits

TASKS = ("uas", "asr")  # what is read of every clip


class TokenReader:
    """Greedy decoding of text from token ids.

    Args:
        model: training model in eval mode.
        text: its text tokenizer.
        max_pieces: longest answer, in pieces.
    """

    def __init__(self, model: TokenizerSeq2Seq, text: TextUnits, max_pieces: int = 256) -> None:
        self.model, self.text = model, text
        self.max_pieces = min(max_pieces, model.config.max_target_positions - 1)
        self.vocabulary = DecoderVocabulary.of(text)

    @torch.inference_mode()
    def read(self, tokens: Sequence[np.ndarray], task: str) -> list[str]:
        """Answers of one batch.

        Args:
            tokens: (T,) ids each; an empty item gives an empty answer.
            task: "uas" or "asr".
        """
        filled = [k for k, ids in enumerate(tokens) if len(ids)]
        answers = [""] * len(tokens)
        if not filled:
            return answers
        lengths = torch.tensor([len(tokens[k]) for k in filled])
        batch = pad_ids([tokens[k].tolist() for k in filled], 0)
        encoded = self.model.encoder(token_ids=batch, token_lengths=lengths)
        start, eos = self.vocabulary.start(task), self.vocabulary.eos
        pieces = self.model.greedy(encoded, start, eos, self.max_pieces)
        for k, row in zip(filled, pieces, strict=True):
            answers[k] = self.text.decode([i for i in row if i < self.text.vocab_size])
        return answers


def read_tokens_file(path: Path) -> dict[str, np.ndarray]:
    """id -> tokens from a dump folder, a Kaldi token file, or JSONL rows (id, tokens)."""
    if path.suffix != ".jsonl":
        return read_token_text(path)
    rows = {}
    for row in read_jsonl(path):
        if "tokens" not in row:
            raise UASError(f"{path}: row {row.get('id')} has no tokens")
        rows[row["id"]] = np.asarray(row["tokens"], dtype=np.int64)
    return rows


def shuffled(tokens: dict[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """Every clip gets another clip's tokens (a random cycle): what is read without hearing it."""
    keys = list(tokens)
    order = np.random.default_rng(seed).permutation(len(keys))
    partner = {keys[a]: keys[b] for a, b in zip(order, np.roll(order, 1), strict=True)}
    return {key: tokens[partner[key]] for key in keys}


def read_all(
    reader: TokenReader, tokens: dict[str, np.ndarray], control: str, batch_size: int = 32
) -> Iterator[dict[str, str]]:
    """Rows ``{"id", "task", "control", "response"}`` for every clip and task, batched by length."""
    order = sorted(tokens, key=lambda key: len(tokens[key]))
    batches = [order[at : at + batch_size] for at in range(0, len(order), batch_size)]
    answers: dict[tuple[str, str], str] = {}
    work = [(task, keys) for task in TASKS for keys in batches]
    for task, keys in progress(work, desc="reading tokens"):
        for key, text in zip(keys, reader.read([tokens[k] for k in keys], task), strict=True):
            answers[key, task] = text
    for key in tokens:
        for task in TASKS:
            yield {"id": key, "task": task, "control": control, "response": answers[key, task]}
