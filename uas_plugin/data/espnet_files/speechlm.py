"""Dataset JSON and length statistics of ESPnet's SpeechLM loader, over a token dump as it lies.

The stock loader knows two readers. ``lhotse_audio`` reads ``cuts.jsonl.gz`` of a folder, which a
dump's set has: its entry gives waveforms. ``text`` reads ``<id> <text>`` lines, which is also the
form of a dump's ``token`` file: its entry gives the ids as a string. With ``uas_plugin.espnet``
imported there is a third, ``uas_tokens``, which gives them as an integer array.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from uas_plugin.atomic import atomic_path, write_json, write_jsonl
from uas_plugin.data.espnet_files.sets import TokenSet
from uas_plugin.data.tokens import TEXT_NAME
from uas_plugin.errors import UASError

Audio = Literal["uas_tokens", "lhotse_audio", "text"]
AUDIO: tuple[Audio, ...] = ("uas_tokens", "lhotse_audio", "text")
TASKS = ("audio_to_text", "text_to_audio")


def export_speechlm(
    dump: str | os.PathLike[str],
    name: str,
    output_dir: str | os.PathLike[str],
    *,
    audio: Audio = "uas_tokens",
    text_model: str | None = None,
) -> dict[str, Any]:
    """Write ``<name>/{dataset.json,text}`` and ``stats/stats_<task>_<name>.jsonl`` of one set.

    Entry ``audio1`` is the audio in the form of reader ``audio``; ``text1`` the transcription. An
    example's length is its token frames and its text's pieces together.

    Args:
        dump: the dump's folder. name: the set.
        text_model: what ``load_text_tokenizer`` takes, which counts the text's pieces; without it
            characters are counted, an upper bound.

    Returns:
        Number of examples, their total length, and the specifier for the loader.

    Raises:
        UASError: the dump is damaged, or no utterance has tokens and a transcription.
    """
    source, folder = Path(dump).absolute() / name, Path(output_dir).absolute()
    tokens = TokenSet(source)
    length = _counter(text_model)
    samples: list[str] = []
    lengths: dict[str, int] = {}
    with atomic_path(folder / name / "text") as path, open(path, "w", encoding="utf-8") as stream:
        for row in tokens.rows():
            if row.text and row.units.size:
                samples.append(row.utt)
                lengths[row.utt] = row.units.size // tokens.dumped + length(row.text)
                stream.write(f"{row.utt} {row.text}\n")
    if not samples:
        raise UASError(f"{source}: no utterance has both tokens and a transcription")
    for task in TASKS:
        rows = ({utt: size} for utt, size in lengths.items())
        write_jsonl(folder / "stats" / f"stats_{task}_{name}.jsonl", rows)
    where = source / TEXT_NAME if audio == "text" else source
    dataset = folder / name / "dataset.json"
    write_json(
        dataset,
        {
            "data_entry": [
                {"name": "audio1", "path": str(where), "reader": audio},
                {"name": "text1", "path": str(folder / name / "text"), "reader": "text"},
            ],
            "samples": samples,
        },
    )
    return {
        "num_examples": len(samples),
        "total_length": sum(lengths.values()),
        "specifiers": [f"{task}:{name}:{dataset}" for task in TASKS],
        "stats_dir": str(folder / "stats"),
    }


def _counter(text_model: str | None) -> Any:
    if text_model is None:
        return len
    from uas_plugin.data.text import load_text_tokenizer

    tokenizer = load_text_tokenizer(text_model)
    return lambda text: len(tokenizer.encode(text))
