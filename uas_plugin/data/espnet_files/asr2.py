"""Files of ESPnet's discrete ASR (asr2): token ids as source text, transcriptions as target.

Names are those of ``asr2.sh`` from its stage 5 on; ``<lang>`` is any word::

    <set>/text.<ts|rm>.<src_lang>     utt <one character an id, no spaces>, or words u12 u7
    <set>/text.ts.<tgt_lang>          utt transcription
    <set>/{utt2spk,spk2utt,feats_type,info.json}
    token_list/...                    token lists, and bpe.model of BPE

``ts`` keeps every frame; ``rm`` removes adjacent repeats. Utterances without a transcription or
without tokens are left out and counted.
"""

from __future__ import annotations

import dataclasses
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from uas_plugin.atomic import write_json, write_text
from uas_plugin.data.espnet_files import units
from uas_plugin.data.espnet_files.sets import Row, TokenSet, named_sets
from uas_plugin.data.espnet_files.vocabulary import (
    TOKENS_NAME,
    characters_of,
    train_bpe,
    words_of,
    write_token_list,
)
from uas_plugin.data.espnet_files.writing import (
    finish,
    is_made,
    set_files,
    source_of,
    value_lines,
)
from uas_plugin.data.kaldi import audio_path
from uas_plugin.data.text import MODEL_NAME
from uas_plugin.data.tokens import INFO_NAME, read_token_info
from uas_plugin.errors import UASError

TextTokens = Literal["bpe", "char", "word"]
TEXT_TOKENS: tuple[TextTokens, ...] = ("bpe", "char", "word")
TARGET_CASE = "ts"
LISTS = "token_list"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asr2Options:
    """How tokens and transcriptions are written.

    Attributes:
        symbols: "char" (asr2's own form) or "word".
        repeats: "keep" (case ts) or "remove" (case rm).
        codebooks: codebooks of a frame that are taken (None: all); ids are flattened frame by
            frame, each codebook with a range of its own.
        unit_bpe: pieces of a sentencepiece model over the tokens; 0: none.
        text_tokens: units of the transcription. text_bpe: pieces, when these are "bpe".
        audio: write ``wav.scp`` too, of the same utterances (for a model that hears them).
        src_lang: name of the token side (None: "uas<number of ids>"). tgt_lang: of the text.
        train: the set that BPE models and text token lists are made of.
    """

    symbols: units.Symbols = "char"
    repeats: Literal["keep", "remove"] = "keep"
    codebooks: int | None = None
    unit_bpe: int = 0
    text_tokens: TextTokens = "bpe"
    text_bpe: int = 256
    audio: bool = False
    src_lang: str | None = None
    tgt_lang: str = "text"
    train: str = "train"

    @property
    def case(self) -> str:
        """asr2's name of the treatment of repeats."""
        return "rm" if self.repeats == "remove" else "ts"

    def files(self, src_lang: str) -> tuple[str, str]:
        """Names of a set's source and target text."""
        return f"text.{self.case}.{src_lang}", f"text.{TARGET_CASE}.{self.tgt_lang}"

    def unit_list(self, src_lang: str) -> dict[str, str | None]:
        """The options of ``mt_train`` that name the token side's list, as paths in the export."""
        if self.unit_bpe:
            name = f"{LISTS}/src_bpe_bpe{self.unit_bpe}_{self.case}_{src_lang}"
            return _list_options("src_", "bpe", f"{name}/{TOKENS_NAME}", f"{name}/{MODEL_NAME}")
        name = f"{LISTS}/{self.symbols}_{src_lang}"
        return _list_options("src_", self.symbols, f"{name}/src_{TOKENS_NAME}")

    def text_list(self) -> dict[str, str | None]:
        """The options of ``mt_train`` that name the text side's list."""
        if self.text_tokens == "bpe":
            name = f"{LISTS}/tgt_bpe_bpe{self.text_bpe}_{TARGET_CASE}_{self.tgt_lang}"
            return _list_options("", "bpe", f"{name}/{TOKENS_NAME}", f"{name}/{MODEL_NAME}")
        name = f"{LISTS}/{self.text_tokens}_{self.tgt_lang}"
        return _list_options("", self.text_tokens, f"{name}/tgt_{TOKENS_NAME}")


def _list_options(
    side: str, kind: str, tokens: str, model: str | None = None
) -> dict[str, str | None]:
    return {f"{side}token_type": kind, f"{side}token_list": tokens, f"{side}bpemodel": model}


def export_asr2(
    dump: str | os.PathLike[str],
    sets: Sequence[str],
    output_dir: str | os.PathLike[str],
    options: Asr2Options | None = None,
) -> dict[str, Any]:
    """Write the files of ``sets`` and the token lists; finished sets are left as they are.

    Returns:
        What ``output_dir/info.json`` holds: paths of text files and token lists, counts by set.

    Raises:
        UASError: the dump is damaged or does not fit the options, or a set has no transcription.
    """
    options = options or Asr2Options()
    folder = Path(output_dir)
    if options.train not in sets:
        raise UASError(f"token lists are made of the set '{options.train}': name it in --sets")
    found = named_sets(dump, list(sets), options.codebooks)
    first = found[options.train]
    _check(first, options)
    src_lang = options.src_lang or f"uas{first.num_units}"
    source, target = options.files(src_lang)
    counts = {
        name: _write_set(folder / name, tokens, source, target, options)
        for name, tokens in found.items()
    }
    train, count = folder / options.train, counts[options.train]["num_utts"]
    write_unit_list(folder, train / source, options, src_lang, first.num_units, count)
    write_text_list(folder, train / target, options, count)
    info = {
        "src_text": source,
        "text": target,
        "num_units": first.num_units,
        "frame_rate": first.info["frame_rate"],
        "n_shift": first.n_shift,
        **options.unit_list(src_lang),
        **options.text_list(),
        "sets": counts,
    }
    write_json(folder / INFO_NAME, info)
    return info


def _check(tokens: TokenSet, options: Asr2Options) -> None:
    """Refuse what cannot be written without loss."""
    if options.symbols == "char":
        units.char_of(tokens.num_units - 1)
    if (tokens.num_codebooks or 1) > 1 and (options.repeats == "remove" or options.unit_bpe):
        raise UASError(
            f"{tokens.folder}: frames of {tokens.num_codebooks} codebooks must stay whole: give"
            " --codebooks 1 to remove repeats or to train a unit BPE"
        )
    if options.unit_bpe and options.symbols == "word":
        raise UASError("a BPE over tokens needs --symbols char: it never joins words")
    if 0 < options.unit_bpe <= tokens.num_units:
        raise UASError(
            f"--unit_bpe {options.unit_bpe} leaves nothing to merge: the tokenizer alone has"
            f" {tokens.num_units} ids, and none may be dropped; give more"
        )


def _write_set(
    folder: Path, tokens: TokenSet, source: str, target: str, options: Asr2Options
) -> dict[str, Any]:
    made_from = {**dataclasses.asdict(options), **source_of(tokens.info), "files": [source, target]}
    if is_made(folder, made_from):
        return {key: value for key, value in read_token_info(folder).items() if key != "made_from"}
    info = {"num_utts": 0, "num_tokens": 0, "num_units": 0, "no_text": 0, "no_tokens": 0}
    speakers: dict[str, list[str]] = defaultdict(list)
    names = [source, target, "utt2spk", *(["wav.scp"] if options.audio else [])]
    with set_files(folder, names) as files:
        for row in tokens.rows():
            info["num_tokens"] += row.units.size
            if not row.text or not row.units.size:
                info["no_tokens" if row.text else "no_text"] += 1
                continue
            written = unit_text(row, options)
            info["num_utts"] += 1
            info["num_units"] += written.size
            text = units.units_to_text(written, options.symbols)
            if not np.array_equal(units.text_to_units(text, options.symbols), written):
                raise UASError(f"'{row.utt}': token ids do not survive --symbols {options.symbols}")
            files[source].write(f"{row.utt} {text}\n")
            files[target].write(f"{row.utt} {row.text}\n")
            files["utt2spk"].write(f"{row.utt} {row.speaker}\n")
            if options.audio:
                files["wav.scp"].write(f"{row.utt} {audio_path(row.cut)}\n")
            speakers[row.speaker].append(row.utt)
    if not info["num_utts"]:
        raise UASError(f"{tokens.folder}: no utterance has both tokens and a transcription")
    rows = (f"{name} {' '.join(speakers[name])}\n" for name in sorted(speakers, key=str.encode))
    write_text(folder / "spk2utt", "".join(rows))
    write_text(folder / "feats_type", "raw\n")
    return finish(folder, info, made_from)


def unit_text(row: Row, options: Asr2Options) -> np.ndarray:
    """The ids of an utterance as they are written: all, or without repeats."""
    return units.without_repeats(row.units) if options.repeats == "remove" else row.units


def write_unit_list(
    folder: Path, train: Path, options: Asr2Options, src_lang: str, num_units: int, count: int
) -> None:
    """The token side's list, and its BPE model where there is one.

    Args:
        train: the source text that BPE is trained on, of ``count`` lines.
    """
    names = options.unit_list(src_lang)
    if options.unit_bpe:
        characters = [units.char_of(unit) for unit in range(num_units)]
        lists = (folder / str(names["src_token_list"])).parent
        train_bpe(lists, value_lines(train), count, options.unit_bpe, characters)
    else:
        symbols = (units.symbol_of(unit, options.symbols) for unit in range(num_units))
        write_token_list(folder / str(names["src_token_list"]), symbols)


def write_text_list(folder: Path, train: Path, options: Asr2Options, count: int) -> None:
    """The transcription's list, and its BPE model where there is one; ``train`` as above."""
    path, lines = folder / str(options.text_list()["token_list"]), value_lines(train)
    if options.text_tokens == "bpe":
        train_bpe(path.parent, lines, count, options.text_bpe)
    else:
        symbols = characters_of(lines) if options.text_tokens == "char" else words_of(lines)
        write_token_list(path, symbols)
