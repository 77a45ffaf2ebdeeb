"""Files of ESPnet's discrete TTS (tts2): text as source, token ids as target.

Names are those of ``tts2.sh`` from its stage 7 on::

    <set>/text                      utt transcription
    <set>/text.km.<km_tag>          utt 12 7 7 401 ...     every frame; frame by frame if C > 1
    <set>/wav.scp                   utt <audio>
    <set>/{utt2spk,info.json}
    <set>/durations                 utt d1 d2 ... dT 0     where an alignment is given
    <set>/{utt2sid,utt2voice}       where speakers are used
    <km_tag>/tgt_tokens.txt         one symbol an id, no special ones
    spk2sid                         <training speaker> <number>
    token_list/...                  list of the text's tokens, and bpe.model of BPE
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from uas_plugin.atomic import write_json, write_text
from uas_plugin.data.espnet_files import units
from uas_plugin.data.espnet_files.asr2 import LISTS, Asr2Options, TextTokens, write_text_list
from uas_plugin.data.espnet_files.durations import Durations
from uas_plugin.data.espnet_files.sets import Row, TokenSet, named_sets
from uas_plugin.data.espnet_files.writing import finish, is_made, set_files, source_of
from uas_plugin.data.kaldi import audio_path
from uas_plugin.data.tokens import INFO_NAME, read_token_info
from uas_plugin.errors import UASError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tts2Options:
    """How the files are written.

    Attributes:
        text_tokens, text_bpe: units of the text (see Asr2Options), when ``text_from`` is None.
        text_from: an asr2 export whose text tokens are taken, as its aligner's durations are of
            these.
        durations: set -> durations file; utterances that it lacks are left out. A set without one
            has no ``durations``: enough for decoding.
        speakers: size of the model's table of speakers (``tts_conf.spks``), which the training
            speakers must fit; 0: no speaker numbers are written.
        codebooks: codebooks of a frame that are taken (None: all).
        km_tag: name of the token side (None: "uas<number of ids>").
        train: the set that speakers and token lists are made of.
    """

    text_tokens: TextTokens = "bpe"
    text_bpe: int = 256
    text_from: str | None = None
    durations: Mapping[str, str] = dataclasses.field(default_factory=dict)
    speakers: int = 0
    codebooks: int | None = None
    km_tag: str | None = None
    train: str = "train"


def export_tts2(
    dump: str | os.PathLike[str],
    sets: Sequence[str],
    output_dir: str | os.PathLike[str],
    options: Tts2Options | None = None,
) -> dict[str, Any]:
    """Write the files of ``sets`` and the token lists; finished sets are left as they are.

    Returns:
        What ``output_dir/info.json`` holds; ``n_shift`` is the hop of pitch and energy in samples.

    Raises:
        UASError: the dump is damaged, cuts are parts of recordings, or durations do not fit.
    """
    options = options or Tts2Options()
    folder = Path(output_dir)
    if options.train not in sets:
        raise UASError(f"token lists are made of the set '{options.train}': name it in --sets")
    stray = sorted(set(options.durations) - set(sets))
    if stray:
        raise UASError(f"durations of '{stray[0]}', which is not one of the sets {' '.join(sets)}")
    found = named_sets(dump, list(sets), options.codebooks)
    first = found[options.train]
    tag = options.km_tag or f"uas{first.num_units}"
    symbols = (units.symbol_of(unit, "word") for unit in range(first.num_units))
    write_text(folder / tag / "tgt_tokens.txt", "".join(f"{symbol}\n" for symbol in symbols))
    text = _text_tokens(first, folder, options)
    speakers = _speakers(first, folder, options.speakers) if options.speakers else {}
    split = _splitter(text)
    counts = {
        name: _write_set(folder / name, tokens, f"text.km.{tag}", split, speakers, options)
        for name, tokens in found.items()
    }
    info = {
        "discrete_speech": f"text.km.{tag}",
        "tgt_token_list": f"{tag}/tgt_tokens.txt",
        "num_units": first.num_units,
        "num_codebooks": first.num_codebooks,
        "frame_rate": first.info["frame_rate"],
        "sampling_rate": first.info["sampling_rate"],
        "n_shift": first.n_shift,
        "num_speakers": len(speakers),
        "src_token_type": text["token_type"],
        "src_token_list": os.path.relpath(text["token_list"], folder),
        "bpemodel": text["bpemodel"] and os.path.relpath(text["bpemodel"], folder),
        "sets": counts,
    }
    write_json(folder / INFO_NAME, info)
    return info


def _spoken(tokens: TokenSet) -> Iterator[Row]:
    return (row for row in tokens.rows() if row.text and row.units.size)


def _text_tokens(tokens: TokenSet, folder: Path, options: Tts2Options) -> dict[str, Any]:
    """Token type, list and BPE model of the text; paths as they are opened."""
    if options.text_from:
        base = Path(options.text_from)
        found = read_token_info(base)
    else:
        base = folder
        shared = Asr2Options(text_tokens=options.text_tokens, text_bpe=options.text_bpe)
        texts = folder / LISTS / f"text.{options.train}"
        with set_files(texts.parent, [texts.name]) as files:
            count = 0
            for row in _spoken(tokens):
                files[texts.name].write(f"{row.utt} {row.text}\n")
                count += 1
        if not count:
            raise UASError(f"{tokens.folder}: no utterance has both tokens and a transcription")
        write_text_list(folder, texts, shared, count)
        found = shared.text_list()
    paths = {k: found[k] and str(base / found[k]) for k in ("token_list", "bpemodel")}
    return {"token_type": found["token_type"], **paths}


def _splitter(text: Mapping[str, Any]) -> Callable[[str], int]:
    """Transcription -> number of its tokens as ESPnet's tokenizer of this type counts them."""
    if text["token_type"] == "bpe":
        import sentencepiece

        model = sentencepiece.SentencePieceProcessor(model_file=text["bpemodel"])
        return lambda line: len(model.encode(line))
    return len if text["token_type"] == "char" else lambda line: len(line.split())


def _speakers(tokens: TokenSet, folder: Path, room: int) -> dict[str, int]:
    """Training speakers in order of their names, from 0, as written to ``spk2sid``."""
    names = sorted({row.speaker for row in _spoken(tokens)}, key=str.encode)
    if len(names) > room:
        raise UASError(
            f"{tokens.folder} has {len(names)} speakers, the model's table {room}: give --speakers"
            f" {len(names)} or more, and tts_conf.spks the same"
        )
    write_text(folder / "spk2sid", "".join(f"{name} {k}\n" for k, name in enumerate(names)))
    return {name: k for k, name in enumerate(names)}


def _write_set(
    folder: Path,
    tokens: TokenSet,
    target: str,
    split: Callable[[str], int],
    speakers: dict[str, int],
    options: Tts2Options,
) -> dict[str, Any]:
    """One set's files.

    A speaker whom the model will not know gets the voices of those it does in turn; ``utt2voice``
    names them.
    """
    path = options.durations.get(folder.name)
    made_from = {
        **dataclasses.asdict(options),
        **source_of(tokens.info),
        "aligned": None if path is None else os.path.getmtime(path) if os.path.exists(path) else 0,
    }
    if is_made(folder, made_from):
        return {key: value for key, value in read_token_info(folder).items() if key != "made_from"}
    durations = None if path is None else Durations(path)
    info = {"num_utts": 0, "num_units": 0, "no_text": 0, "no_tokens": 0, "not_aligned": 0}
    voices = itertools.cycle(speakers) if speakers else None
    names = ["text", target, "wav.scp", "utt2spk"]
    names += ["durations"] * (durations is not None) + ["utt2sid", "utt2voice"] * bool(speakers)
    with set_files(folder, names) as files:
        for row in tokens.rows():
            if not row.text or not row.units.size:
                info["no_tokens" if row.text else "no_text"] += 1
                continue
            if durations is not None:
                frames = row.units.size // int(tokens.num_codebooks or 1)
                lengths = durations.of(row.utt, split(row.text), frames)
                if lengths is None:
                    info["not_aligned"] += 1
                    continue
                # ESPnet adds one token to the text, the end; it lasts no frame.
                files["durations"].write(f"{row.utt} {' '.join(map(str, lengths))} 0\n")
            info["num_utts"] += 1
            info["num_units"] += row.units.size
            files["text"].write(f"{row.utt} {row.text}\n")
            files[target].write(f"{row.utt} {' '.join(map(str, row.units))}\n")
            files["wav.scp"].write(f"{row.utt} {audio_path(row.cut)}\n")
            files["utt2spk"].write(f"{row.utt} {row.speaker}\n")
            if voices is not None:
                voice = row.speaker if row.speaker in speakers else next(voices)
                files["utt2sid"].write(f"{row.utt} {speakers[voice]}\n")
                files["utt2voice"].write(f"{row.utt} {voice}\n")
    if not info["num_utts"]:
        raise UASError(f"{tokens.folder}: no utterance with tokens, transcription and durations")
    return finish(folder, info, made_from)
