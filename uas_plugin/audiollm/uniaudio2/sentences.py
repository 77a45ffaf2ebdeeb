"""Auditory sentences from clips: what each of the five kinds is made of.

UniAudio 2.0, section 4.4 and App. B.2. The paper's corpora have hours-long recordings, scripts read
by many and recorded mixtures; here the pieces come from a set of short clips with variants
(`uas_plugin.audiollm.uniaudio2.clips`): a clip cut into pieces, a speaker's utterances with their
words, clips with captions, noisy speech with its parts, and a text in two voices.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from uas_plugin.audiollm.uniaudio2.auditory import (
    KINDS,
    MOST,
    Piece,
    auditory_sentence,
    cut_pieces,
)
from uas_plugin.audiollm.uniaudio2.clips import StoredClip
from uas_plugin.audiollm.uniaudio2.packing import Packed, Packer
from uas_plugin.errors import UASError, suggest

PIECE_TOKENS = (2, 4, 6)  # reasoning tokens of a piece of `continued_audio`: 0.4 to 1.2 s
SMALLEST_PAIRS, MOST_PAIRS = 2, MOST // 2


class SentenceMaker:
    """Draws auditory sentences.

    Args:
        encode: text to ids. max_frames: longer sentences are left out.
    """

    def __init__(
        self,
        clips: Sequence[StoredClip],
        packer: Packer,
        encode: Callable[[str], list[int]],
        *,
        max_frames: int,
        seed: int = 0,
    ) -> None:
        self.packer, self.encode, self.max_frames = packer, encode, max_frames
        self.rng = np.random.default_rng([seed, len(clips)])
        self.all = list(clips)
        self.speech = [clip for clip in clips if clip.speaks_alone]
        self.sounds = [clip for clip in clips if clip.caption and not clip.text]
        self.by_name = {clip.name: clip for clip in clips}
        self.by_caption = _groups(self.sounds, lambda clip: clip.caption)
        self.by_text = _groups(self.speech, lambda clip: clip.text)
        self.by_speaker = _groups(self.speech, speaker_of)
        self.left_out: Counter[str] = Counter()

    def sentences(self, counts: Mapping[str, int]) -> Iterator[tuple[str, Packed]]:
        """``(kind, sentence)``, so many of each kind; ``left_out`` counts what did not fit.

        Raises:
            UASError: an unknown kind.
        """
        for kind, count in counts.items():
            if kind not in KINDS:
                raise UASError(f"unknown auditory sentence '{kind}'.{suggest(kind, KINDS)}")
            draw = getattr(self, f"_{kind}")
            for _ in range(count):
                pieces = draw()
                if pieces is None:
                    self.left_out[f"{kind}: no clips for it"] += 1
                    continue
                packed = auditory_sentence(kind, pieces, self.packer, self.encode)
                if len(packed) > self.max_frames:
                    self.left_out[f"{kind}: longer than {self.max_frames} frames"] += 1
                else:
                    yield kind, packed

    def _one(self, clips: Sequence[StoredClip]) -> StoredClip:
        return clips[int(self.rng.integers(len(clips)))]

    def _continued_audio(self) -> list[Piece] | None:
        if not self.all:
            return None
        clip = self._one(self.all)
        tokens = int(self.rng.choice(PIECE_TOKENS))
        pieces = cut_pieces(clip.ids, tokens)[:MOST]
        return list(pieces) if len(pieces) > 1 else None

    def _speech_text(self) -> list[Piece] | None:
        if not self.by_speaker:
            return None
        speakers = list(self.by_speaker)
        group = self.by_speaker[speakers[int(self.rng.integers(len(speakers)))]]
        count = int(self.rng.integers(SMALLEST_PAIRS, MOST_PAIRS + 1))
        chosen = self.rng.permutation(len(group))[:count]
        return [piece for i in chosen for piece in (group[i].text, group[i].ids)]

    def _audio_caption(self) -> list[Piece] | None:
        """Clips of two captions only, so that what was shown tells what comes."""
        if len(self.by_caption) < 2:
            return None
        captions = list(self.by_caption)
        two = self.rng.permutation(len(captions))[:2]
        count = int(self.rng.integers(SMALLEST_PAIRS, MOST_PAIRS + 1))
        pieces: list[Piece] = []
        for _ in range(count):
            clip = self._one(self.by_caption[captions[int(self.rng.choice(two))]])
            pieces += [clip.ids, clip.caption]
        return pieces

    def _mixture(self) -> list[Piece] | None:
        found = [clip for clip in self.speech if clip.noisy is not None]
        if not found:
            return None
        clip = self._one(found)
        noise = self.by_name.get(clip.noise)
        assert clip.noisy is not None
        parts: list[Piece] = [clip.noisy, clip.ids]
        return [*parts, noise.ids] if noise is not None else parts

    def _same_text(self) -> list[Piece] | None:
        """Other speakers of the text where there are any, else the variant of the clip."""
        found = [clip for clip in self.speech if clip.other_voice is not None]
        if not found:
            return None
        clip = self._one(found)
        group = self.by_text[clip.text]
        others = [other.ids for other in group if speaker_of(other) != speaker_of(clip)]
        assert clip.other_voice is not None
        clips: list[Piece] = [clip.ids, clip.other_voice, *others[: MOST - 3]]
        order = self.rng.permutation(len(clips))
        return [clip.text, *(clips[i] for i in order)]


def speaker_of(clip: StoredClip) -> str:
    """The speaker where the corpus names one, else the clip itself."""
    return clip.speaker or clip.name


def _groups(
    clips: Sequence[StoredClip], key: Callable[[StoredClip], str]
) -> dict[str, list[StoredClip]]:
    found: dict[str, list[StoredClip]] = defaultdict(list)
    for clip in clips:
        found[key(clip)].append(clip)
    return dict(found)
