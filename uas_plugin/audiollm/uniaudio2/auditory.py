"""Auditory sentences: long sequences of text and audio segments for the fourth stage.

Five kinds (UniAudio 2.0, section 4.4 and App. B.2), two to eight segments each. Every segment is a
target: the model reads them as it reads text, without a task prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from uas_plugin.audiollm.uniaudio2.config import STREAMS
from uas_plugin.audiollm.uniaudio2.packing import Packed, Packer, Segment
from uas_plugin.codec.reasoning.branches import BranchIds
from uas_plugin.errors import UASError

Piece = str | BranchIds  # a text, or a clip
KINDS = {  # kind -> what its pieces are, in turn
    "continued_audio": ("clip",),
    "speech_text": ("text", "clip"),
    "audio_caption": ("clip", "caption"),
    "mixture": ("clip",),
    "same_text": ("text", "clip", "clip"),
}
FEWEST, MOST = 2, 8
RATIO = 2.5  # reconstruction frames of a reasoning token


def auditory_sentence(
    kind: str, pieces: Sequence[Piece], packer: Packer, encode: Callable[[str], list[int]]
) -> Packed:
    """The sequence of ``pieces``.

    Args:
        kind: "continued_audio", consecutive parts of one recording; "speech_text", texts and clips
            in turn; "audio_caption", clips and their captions in turn; "mixture", a mixture and its
            clean parts; "same_text", a text and clips of it in different voices.

    Raises:
        UASError: an unknown kind, the wrong number of pieces, or one of another sort than the kind
            has in its place.
    """
    if kind not in KINDS:
        raise UASError(f"unknown auditory sentence '{kind}'; known: {', '.join(KINDS)}")
    if not FEWEST <= len(pieces) <= MOST:
        raise UASError(f"an auditory sentence has {FEWEST} to {MOST} pieces, not {len(pieces)}")
    parts: list[tuple[str, np.ndarray, np.ndarray]] = []
    for place, piece in enumerate(pieces):
        wanted = _sort(kind, place)
        if isinstance(piece, BranchIds) != (wanted == "clip"):
            raise UASError(f"{kind}: piece {place} must be a {wanted}")
        if isinstance(piece, BranchIds):
            parts.append(("reason_seq", *packer.field("reason_seq", piece.reasoning)))
            parts.append(("semantic_seq", *packer.field("semantic_seq", piece.reconstruction)))
        else:
            field = "caption_seq" if wanted == "caption" else "transcription_seq"
            parts.append((field, *packer.field(field, encode(piece))))
    segments, start = [], 0
    for field, tokens, _ in parts:
        segments.append(Segment(field, start, start + len(tokens), True))
        start += len(tokens)
    tokens = np.concatenate([tokens for _, tokens, _ in parts])
    assert tokens.shape == (start, STREAMS)
    return Packed(tokens, np.concatenate([mask for _, _, mask in parts]), tuple(segments))


def _sort(kind: str, place: int) -> str:
    sorts = KINDS[kind]
    if kind == "same_text":  # one text, then clips of it
        return sorts[min(place, 1)]
    return sorts[place % len(sorts)]


def cut_pieces(ids: BranchIds, tokens: int) -> list[BranchIds]:
    """Consecutive pieces of ``tokens`` reasoning tokens each, an even number; the rest is left.

    Raises:
        UASError: an odd number, whose pieces would begin between two reconstruction frames.
    """
    if tokens < 2 or tokens % 2:
        raise UASError(f"pieces must have an even number of reasoning tokens, not {tokens}")
    frames = int(tokens * RATIO)
    count = min(len(ids.reasoning) // tokens, len(ids.reconstruction) // frames)
    return [
        BranchIds(
            ids.reasoning[k * tokens : (k + 1) * tokens],
            ids.reconstruction[k * frames : (k + 1) * frames],
        )
        for k in range(count)
    ]
