"""The sequence sets of a recipe: solved requests for stages 1 to 3, sentences for stage 4.

Written below one folder: ``special.json`` (marks), ``base/{train,dev}``, ``auditory/{train,dev}``
(the requests again, and the auditory sentences), ``info.json`` last.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from uas_plugin.atomic import write_json
from uas_plugin.audiollm.uniaudio2.clips import StoredClip, read_clips
from uas_plugin.audiollm.uniaudio2.config import SpecialIds, config_dict, plain_ids
from uas_plugin.audiollm.uniaudio2.data import AUDITORY, write_sequences
from uas_plugin.audiollm.uniaudio2.packing import Packed, Packer
from uas_plugin.audiollm.uniaudio2.requests import (
    QuestionOptions,
    RequestMaker,
    RequestPacker,
    classes_of,
)
from uas_plugin.audiollm.uniaudio2.sentences import SentenceMaker
from uas_plugin.audiollm.uniaudio2.text import TextIds
from uas_plugin.data.sampling import seeded
from uas_plugin.errors import UASError

SETS = ("train", "dev")
BASE, SENTENCES = "base", "auditory"


def marks_of(codec_config: Path, pieces: int) -> SpecialIds:
    """The marks for a codec of ours and a text tokenizer of ``pieces``.

    Raises:
        UASError: the file states no codec.
    """
    try:
        sizes = json.loads(codec_config.read_text(encoding="utf-8"))["codec"]
        return plain_ids(sizes["reasoning_codes"], sizes["codes"], pieces)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UASError(f"{codec_config} states no ReasoningCodec: {error}") from None


def request_maker(conf: Mapping[str, Any], train: Sequence[StoredClip]) -> RequestMaker:
    """The requests that the options ``conf`` of stage 5 describe.

    Classes are those of ``train``; ``held_out`` of its sounds are drawn to be left out.
    """
    asked = conf["questions"]
    questions = QuestionOptions(tuple(asked["fields"]), asked["choices"], asked["variants"])
    classes = classes_of(train, questions.fields)
    sounds = classes.get("sound", [])
    drawn = seeded("held_out", conf["seed"]).permutation(len(sounds))[: conf["held_out"]]
    held_out = [sounds[i] for i in drawn]
    return RequestMaker(classes, questions, held_out, seed=conf["seed"])


def write_corpus(
    conf: Mapping[str, Any], clips_dir: Path, text_dir: Path, pieces: int, codec: Path, output: Path
) -> dict[str, Any]:
    """Write the sets; what they hold.

    Args:
        conf: ``tasks``, ``questions``, ``held_out``, ``sentences`` (kind -> sentences for 100
            clips), ``max_frames``, ``sentence_frames``, ``seed``.
        clips_dir: sets of clips. text_dir: the text tokenizer. pieces: of it. codec: the codec's
            ``config.json``.
    """
    output.mkdir(parents=True, exist_ok=True)
    (output / "info.json").unlink(missing_ok=True)
    ids = marks_of(codec, pieces)
    write_json(output / "special.json", config_dict(ids))
    packer, text = Packer(ids), TextIds(text_dir, ids)
    sets = {name: read_clips(clips_dir / name) for name in SETS}
    maker = request_maker(conf, sets["train"])
    info: dict[str, Any] = {"held_out": sorted(maker.held_out)}
    for name, clips in sets.items():
        kept = [clip for clip in clips if maker.keeps(clip)]
        info |= _write_set(conf, maker, kept, packer, text, output, name)
    write_json(output / "info.json", info)
    return info


def _write_set(
    conf: Mapping[str, Any],
    maker: RequestMaker,
    clips: Sequence[StoredClip],
    packer: Packer,
    text: TextIds,
    output: Path,
    name: str,
) -> dict[str, Any]:
    """Both sets of one part of the corpus."""
    found = [
        request
        for clip in clips
        for task in conf["tasks"]
        for request in maker.of(task, clip, maker.questions.variants)
    ]
    left_out: Counter[str] = Counter()

    def base() -> Iterator[tuple[str, Packed]]:
        packing = RequestPacker(packer, text, max_frames=conf["max_frames"], seed=conf["seed"])
        yield from packing.pack(found)
        left_out.update(packing.left_out)

    info = {f"{BASE}/{name}": write_sequences(output / BASE / name, base())["sequences"]}
    info[f"left_out/{name}"] = dict(left_out)
    sentences = SentenceMaker(
        clips, packer, text.encode, max_frames=conf["sentence_frames"], seed=conf["seed"]
    )
    counts = {kind: -(-share * len(clips) // 100) for kind, share in conf["sentences"].items()}
    drawn = ((AUDITORY + kind, packed) for kind, packed in sentences.sentences(counts))
    written = write_sequences(output / SENTENCES / name, chain(base(), drawn))
    info[f"{SENTENCES}/{name}"] = written["sequences"]
    info[f"left_out/{name}"] |= dict(sentences.left_out)
    return info
