"""LM data: token dumps and labels -> groups of training items and ``vocab.json``."""

from __future__ import annotations

import contextlib
import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from uas_plugin.atomic import atomic_path, write_json, write_jsonl
from uas_plugin.audiollm.chat import (
    Example,
    asr_messages,
    encode_example,
    interleaved_messages,
    qa_messages,
    speech_chat_messages,
    tts_messages,
    uas_messages,
)
from uas_plugin.audiollm.dataset import GroupWriter
from uas_plugin.audiollm.options import LMDataOptions, TTSOptions
from uas_plugin.audiollm.replies import Reply, find_replies
from uas_plugin.audiollm.shards import SHARDS, shard_name
from uas_plugin.audiollm.vocabulary import Vocabulary
from uas_plugin.audiollm.word_spans import SpanMaker, read_alignments
from uas_plugin.data.manifests import custom_of
from uas_plugin.data.targets import asr_target, uas_target
from uas_plugin.data.text import TextTokenizer, load_text_tokenizer
from uas_plugin.data.tokens import (
    load_token_cuts,
    read_token_info,
    read_token_text,
    require_one_codebook,
    with_tokens,
)
from uas_plugin.errors import UASError
from uas_plugin.progress import progress
from uas_plugin.qa.labels import collect_labels, cut_items, cut_labels, seeded

Items = list[tuple[str, Example]]


def tts_attributes(cut: Any, options: TTSOptions) -> dict[str, str] | None:
    """What to ask of the voice of ``cut``; None when the clip is no speech on its own."""
    if custom_of(cut).get("kind") not in options.kinds or not asr_target(cut):
        return None
    labels = cut_labels(cut)
    return {name: labels[name] for name in options.attributes if name in labels}


class ItemMaker:
    """The training items of a cut, given its tokens."""

    def __init__(self, vocabulary: Vocabulary, text: TextTokenizer, options: LMDataOptions) -> None:
        self.vocabulary, self.text, self.options = vocabulary, text, options
        spans = options.interleaved
        alignments = read_alignments(spans.word_durations)
        self.spans = SpanMaker(alignments, spans.words, spans.copies, vocabulary, text)

    def _example(self, messages: Any, **answer: Any) -> Example:
        return encode_example(messages, self.vocabulary, self.text, **answer)

    def groups(self, cut: Any, codes: np.ndarray, reply: Reply | None = None) -> list[Items]:
        """The groups of a cut: about its audio, for some cuts the same without it, and speech.

        Args:
            reply: what is to be said when the clip is heard as a question.
        """
        heard = codes if self.options.audio else None
        groups = [self.listening(cut, heard), self.speaking(cut, codes)]
        drawn = seeded("no_audio", self.options.seed, cut.id).random() < self.options.no_audio
        if drawn and heard is not None:
            groups.append(self.listening(cut, None))
        if reply is not None:
            groups.append(self.replying(codes, reply))
        if self.spans.alignments:
            groups += self.interleaving(cut, codes)
        return groups

    def listening(self, cut: Any, codes: np.ndarray | None) -> Items:
        """Items about the audio: schema, transcription (where there is one), questions."""
        target, said = uas_target(cut), asr_target(cut)
        items: Items = []
        for variant in range(self.options.prompt_variants):
            asked = uas_messages(codes, variant=variant)
            items.append(("uas", self._example(asked, answer_text=target)))
            if said:
                asked = asr_messages(codes, variant=variant)
                items.append(("asr", self._example(asked, answer_text=said)))
        qa = self.options.qa
        classes = {name: self.vocabulary.labels.get(name, []) for name in qa.fields}
        for variant in range(qa.variants):
            # Seeds above 0 differ from the test's, which has seed + 0.
            seed = self.options.seed + 1 + variant
            for item in cut_items(cut, classes, n_choices=qa.choices, seed=seed):
                asked = qa_messages(codes, item["question"], item["choices"])
                items.append(("qa", self._example(asked, answer_text=item["answer"])))
        return items

    def speaking(self, cut: Any, codes: np.ndarray) -> Items:
        """The item that generates the audio from its text, if the clip is speech on its own."""
        attributes = tts_attributes(cut, self.options.tts)
        if attributes is None:
            return []
        rng = seeded("tts", self.options.seed, cut.id)
        variant = int(rng.integers(self.options.prompt_variants))
        asked = tts_messages(asr_target(cut), attributes=attributes, variant=variant)
        return [("tts", self._example(asked, answer_audio=codes))]

    def interleaving(self, cut: Any, codes: np.ndarray) -> list[Items]:
        """The clip's words in text and speech in turn; a group a copy, as nothing is shared."""
        rng = seeded("interleaved", self.options.seed, cut.id)
        asked = interleaved_messages()
        copies = self.spans.make(cut.id, asr_target(cut), codes, rng)
        return [[("interleaved", self._example(asked, answer_ids=ids))] for ids in copies]

    def replying(self, codes: np.ndarray, reply: Reply) -> Items:
        """The item that answers the clip in text and speech."""
        slots = self.options.speech_chat.slots
        asked = speech_chat_messages(codes, slots=slots)
        answer = {"answer_text": reply.text, "answer_audio": reply.codes, "slots": slots}
        return [("speech_chat", self._example(asked, **answer))]


class SetWriter:
    """The groups of one set or shard, and what is left out of it.

    Items too long for ``max_tokens`` are left out whole, counted, and listed in
    ``too_long.jsonl``; cuts without tokens are left out and counted.
    """

    def __init__(self, folder: Path, maker: ItemMaker) -> None:
        self.folder, self.maker = folder, maker
        self.writer = GroupWriter(folder, maker.vocabulary.size)
        self.dropped: list[dict[str, Any]] = []
        self.no_tokens = 0

    def add(self, cut: Any, codes: np.ndarray | None, reply: Reply | None) -> None:
        """The groups of a cut."""
        if codes is None or not len(codes):
            self.no_tokens += 1
            return
        limit = self.maker.options.max_tokens
        for items in self.maker.groups(cut, codes, reply):
            sizes = [len(e.prefix) + len(e.prompt) + len(e.answer) for _, e in items]
            fitting = [item for item, size in zip(items, sizes) if size <= limit]
            self.dropped += [
                {"id": cut.id, "task": task, "tokens": size}
                for (task, _), size in zip(items, sizes)
                if size > limit
            ]
            if fitting:
                self.writer.add(cut.id, fitting)

    def finish(self) -> dict[str, Any]:
        """Complete the set; returns its ``info.json``.

        Raises:
            UASError: no item is left.
        """
        limit, folder = self.maker.options.max_tokens, self.folder
        if not self.writer.counts["groups"]:
            raise UASError(
                f"{folder}: no item is left ({self.no_tokens} cuts without tokens, "
                f"{len(self.dropped)} items above {limit} tokens)"
            )
        write_jsonl(folder / "too_long.jsonl", self.dropped)
        if self.dropped or self.no_tokens:
            logging.warning(
                "%s: left out %d items above %d tokens and %d cuts without tokens",
                folder, len(self.dropped), limit, self.no_tokens,
            )  # fmt: skip
        return self.writer.finish(
            items_too_long=len(self.dropped), cuts_without_tokens=self.no_tokens
        )


MOST_OPEN = 64  # shards written at once, of four files each


def _write(dump: Path, maker: ItemMaker, folder: Path) -> dict[str, Any]:
    """One set of a dump; ``train`` in as many shards as the options say, dealt in turn."""
    shards = maker.options.shards if folder.name == "train" else 1
    (folder / SHARDS).unlink(missing_ok=True)
    cuts, chat = load_token_cuts(dump), maker.options.speech_chat
    # Who answers whom is known only when all are: then the tokens are held in memory.
    spoken = read_token_text(dump) if chat.replies or chat.kinds else {}
    replies = find_replies(cuts, spoken, maker.text, chat)
    if shards == 1:
        return _write_parts(dump, cuts, maker, {0: folder}, 1, replies)[0]
    total: Counter[str] = Counter()
    for first in range(0, shards, MOST_OPEN):
        numbers = range(first, min(first + MOST_OPEN, shards))
        folders = {number: folder / shard_name(number) for number in numbers}
        for info in _write_parts(dump, cuts, maker, folders, shards, replies):
            total.update(info)
    info = {"shards": shards, **total}
    write_json(folder / SHARDS, info)
    return info


def _write_parts(
    dump: Path,
    cuts: Iterable[Any],
    maker: ItemMaker,
    folders: Mapping[int, Path],
    shards: int,
    replies: Mapping[str, Reply],
) -> list[dict[str, Any]]:
    """The parts ``folders`` (number -> folder) of ``shards``, in one pass over the cuts."""
    with contextlib.ExitStack() as stack:
        parts = {number: SetWriter(path, maker) for number, path in folders.items()}
        for part in parts.values():
            stack.enter_context(part.writer)
        name = dump.name if shards == 1 else f"{dump.name}, {len(parts)} of {shards} shards"
        paired = progress(with_tokens(cuts, dump), desc=f"LM items of {name}")
        for number, (cut, codes) in enumerate(paired):
            if (own := parts.get(number % shards)) is not None:
                own.add(cut, codes, replies.get(cut.id))
        infos = [part.finish() for part in parts.values()]
        maker.spans.report()
        return infos


def find_codebook(tokenizer: str | os.PathLike[str], size: int) -> np.ndarray | None:
    """The codebook ``(size, C)`` float32 of an exported audio tokenizer, or None.

    None too where several would fit: a codec stores more codebooks than are in use, and their
    order in the file does not tell which.
    """
    path = Path(tokenizer) / "model.safetensors"
    if not path.exists():
        return None
    from safetensors import safe_open

    with safe_open(path, framework="np") as tensors:
        names = [
            name
            for name in tensors.keys()  # noqa: SIM118  (no mapping)
            if name.removesuffix(".weight").rsplit(".")[-1] == "codebook"
        ]
        shapes = {name: tensors.get_slice(name).get_shape() for name in names}
        fitting = [n for n, shape in shapes.items() if len(shape) == 2 and shape[0] == size]
        return tensors.get_tensor(fitting[0]).astype(np.float32) if len(fitting) == 1 else None


def build_lm_data(
    tokens_dir: str | os.PathLike[str],
    text_model: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    options: LMDataOptions,
) -> dict[str, Any]:
    """Write ``vocab.json``, ``train/``, ``dev/``; ``codebook.npy`` if found and the text tokenizer
    if ``options`` name one; ``info.json`` last.

    Args:
        tokens_dir: dump of one tokenizer, with ``train`` and ``dev``.

    Raises:
        UASError: the dump or the text model is missing, the dump has several codebooks, or no item
            is left.
    """
    tokens_dir, output = Path(tokens_dir), Path(output_dir)
    require_one_codebook(tokens_dir / "train", "the AudioLLM")
    dump = read_token_info(tokens_dir / "train")
    text = load_text_tokenizer(options.text_model or text_model)
    vocabulary = Vocabulary(
        text_size=text.vocab_size,
        codebook_size=int(dump["codebook_size"]),
        frame_rate=float(dump["frame_rate"]),
        sampling_rate=int(dump["sampling_rate"]),
        text_sha256=text.sha256,
        tokenizer=dump.get("tokenizer"),
        tokenizer_sha256=dump.get("sha256"),
        labels=collect_labels(load_token_cuts(tokens_dir / "train"), options.qa.fields),
    )
    maker = ItemMaker(vocabulary, text, options)
    sets = {name: _write(tokens_dir / name, maker, output / name) for name in ("train", "dev")}
    codebook = find_codebook(dump.get("tokenizer") or "", vocabulary.codebook_size)
    if codebook is not None:
        with atomic_path(output / "codebook.npy") as path:
            np.save(path, codebook)
    if options.text_model is not None:
        text.save(output)
    vocabulary.save(output / "vocab.json")
    info = {"vocabulary": vocabulary.size, "codebook": codebook is not None, **sets}
    write_json(output / "info.json", info)
    return info
