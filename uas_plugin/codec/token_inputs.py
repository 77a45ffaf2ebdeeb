"""What ``uas reconstruct`` decodes: clips with token ids, from audio, cuts, dumps or token files.

A clip that cannot be used is set aside with its reason; the others go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from uas_plugin.data.manifests import load_cuts
from uas_plugin.errors import UASError

TOKENS = "tokens"  # the cuts' field of a token dump


@dataclass(frozen=True)
class TokenClip:
    """Token ids (N,) of a clip, and the Lhotse cut that they are of, if there is one."""

    id: str
    ids: np.ndarray
    cut: Any = None


@dataclass
class TokenClips:
    """Clips by id in the order of their source, and ``{"id", "reason"}`` of those set aside."""

    clips: dict[str, TokenClip] = field(default_factory=dict)
    rejected: list[dict[str, str]] = field(default_factory=list)

    def add(self, clip: TokenClip) -> None:
        """Take a clip, unless its id cannot be used."""
        if clip.id in self.clips:
            self.reject(clip.id, "this id stands there twice; the first clip is used")
        elif clip.id.split() != [clip.id]:
            # wav.scp separates its columns by white space.
            self.reject(clip.id, "an id must not be empty or hold white space")
        else:
            self.clips[clip.id] = clip

    def reject(self, name: str, reason: str) -> None:
        """Set a clip aside; the reason is made to name it."""
        named = reason if name in reason else f"clip {name}: {reason}"
        self.rejected.append({"id": name, "reason": named})


def from_token_file(path: Path) -> TokenClips:
    """Clips of a Kaldi text file, a dump's folder, or ``*.jsonl`` rows with "id" and "tokens".

    Raises:
        UASError: the file is missing, or a row is no clip at all.
    """
    from uas_plugin.codec.decode import read_tokens

    found = TokenClips()
    if path.is_dir() or path.name.endswith((".jsonl", ".jsonl.gz")):
        for name, ids in read_tokens(path).items():
            found.add(TokenClip(name, ids))
        return found
    if not path.is_file():
        raise UASError(f"no token file {path}")
    with open(path, encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            name, _, text = line.rstrip("\n").partition(" ")
            try:
                ids = np.array(text.split(), dtype=np.int64)
            except ValueError:
                found.reject(name, f"{path}:{number}: token ids must be integers")
                continue
            found.add(TokenClip(name, ids))
    return found


def from_cuts(path: Path, tokenizer: Any = None, batch_size: int = 16) -> TokenClips:
    """Clips of a CutSet: audio heard by ``tokenizer``, or without one the tokens of a dump.

    Args:
        path: ``cuts.jsonl.gz``, or the folder of a dump.
        tokenizer: what `uas_plugin.load_tokenizer` gives.
        batch_size: clips of 30 s that it encodes together.

    Raises:
        UASError: the manifest is missing, or none of its cuts has tokens and there is no tokenizer.
    """
    cuts = load_cuts(path / "cuts.jsonl.gz" if path.is_dir() else path)
    found = TokenClips()
    if tokenizer is not None:
        named = ((cut.id, cut, cut) for cut in cuts)
        _encode(tokenizer, named, batch_size, found)
        return found
    for cut in cuts:
        if not (getattr(cut, "custom", None) or {}).get(TOKENS):
            found.reject(cut.id, "the cut has no tokens: give --tokenizer, or a token dump")
            continue
        try:
            ids = np.asarray(cut.load_tokens())
        except (OSError, KeyError, ValueError) as error:
            found.reject(cut.id, f"its tokens cannot be read: {error}")
            continue
        found.add(TokenClip(cut.id, ids, cut))
    if not found.clips and found.rejected:
        raise UASError(f"{path}: {found.rejected[0]['reason']}")
    return found


def from_files(files: Sequence[str], tokenizer: Any, batch_size: int = 16) -> TokenClips:
    """Clips of audio files, named after the files (white space in a name becomes "_").

    Raises:
        UASError: two files have the same name.
    """
    names = ["_".join(Path(file).stem.split()) for file in files]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UASError(f"two of the files have the same name '{twice}': clips are named after them")
    found = TokenClips()
    named = ((name, file, None) for name, file in zip(names, files, strict=True))
    _encode(tokenizer, named, batch_size, found)
    return found


def _encode(
    tokenizer: Any, named: Iterable[tuple[str, Any, Any]], batch_size: int, found: TokenClips
) -> None:
    """Add the clips of ``(name, audio, cut)``, in constant memory but for the ids."""
    from collections import deque

    from uas_plugin.progress import progress
    from uas_plugin.tokenizer.extract import Batching

    waiting: deque[Any] = deque()  # cuts that are read ahead of their ids

    def audios() -> Iterator[tuple[str, Any]]:
        for name, audio, cut in named:
            waiting.append(cut)
            yield name, audio

    encoded = tokenizer.encode_stream(audios(), Batching.of(batch_size))
    for name, ids in progress(encoded, desc="tokens"):
        cut = waiting.popleft()
        if isinstance(ids, UASError):
            found.reject(name, str(ids))
        else:
            found.add(TokenClip(name, ids, cut))


def usable(found: TokenClips, codec: Any) -> None:
    """Set aside the clips whose ids ``codec`` cannot decode.

    Args:
        found: changed in place.
        codec: what `uas_plugin.load_codec` gives.

    Raises:
        UASError: no clip is left.
    """
    from uas_plugin.codec.features import check_ids

    for name, clip in list(found.clips.items()):
        try:
            check_ids(clip.ids, codec.codebook_size, f"clip {name}")
            if not codec.num_frames(len(clip.ids)):
                raise UASError(f"clip {name}: {len(clip.ids)} token ids are too few for a frame")
        except UASError as error:
            found.reject(name, str(error))
            del found.clips[name]
    if not found.clips:
        first = found.rejected[0]["reason"] if found.rejected else "there are none"
        raise UASError(f"no clip can be decoded; {first}")


def check_rates(frame_rate: float, codebook_size: int, codec: Any) -> None:
    """Raise UASError unless tokens of this rate (Hz) and codebook are those of ``codec``."""
    if abs(frame_rate - codec.frame_rate) > 1e-6 or codebook_size > codec.codebook_size:
        raise UASError(
            f"the tokens ({frame_rate:g} Hz, {codebook_size} codes) are not those of the decoder "
            f"({codec.frame_rate:g} Hz, {codec.codebook_size} codes)"
        )


def check_dump(path: Path, codec: Any) -> None:
    """`check_rates` by the ``info.json`` beside a dump's manifest; nothing where there is none."""
    from uas_plugin.data.tokens import INFO_NAME, read_token_info

    folder = path if path.is_dir() else path.parent
    if not (folder / INFO_NAME).is_file():
        return
    info = read_token_info(folder)
    if "frame_rate" in info and "codebook_size" in info:
        check_rates(float(info["frame_rate"]), int(info["codebook_size"]), codec)
