"""The speakers of the synthesized corpus and how their feelings sound.

A speaker is an espeak-ng variant, possibly with another length of the vocal tract (all resonances
and the pitch scaled by ``scale``; far above 1 it makes a child's voice). Variants that share their
formants (such as belinda and linda, or steph, steph2 and steph3) may not stand in two splits.
Gender is as the variant's own file says and as its measured pitch agrees; age is as the file says
(f1, m1, croak: 70; grandma: 90) or the name (grandpa).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Voice:
    """One speaker. ``gender`` is None for children, whose voices do not tell it."""

    variant: str
    gender: str | None
    age: str = "Adult"
    timbre: str = "clear"
    scale: float = 1.0

    @property
    def name(self) -> str:
        """The speaker's id: the variant, and its scale in percent where that is not 100."""
        scaled = f"x{round(100 * self.scale)}" if self.scale != 1 else ""
        return self.variant.lower() + scaled


_F, _M = "Female", "Male"
VOICES: dict[str, tuple[Voice, ...]] = {
    "train": (
        *(Voice(name, _M) for name in ("m2", "m3", "m5", "m6", "m8", "Alex", "max", "norbert")),
        *(Voice(name, _M) for name in ("pablo", "Andy")),
        *(Voice(name, _M, scale=0.93) for name in ("m2", "m5", "m8", "max", "Andy")),
        *(Voice(name, _M, scale=1.08) for name in ("m3", "m6", "Alex", "norbert", "pablo")),
        Voice("adam", _M, timbre="buzzy"),
        Voice("klatt4", _M, timbre="buzzy"),
        *(Voice(name, _F) for name in ("f4", "Andrea", "aunty", "steph", "steph2", "shelby")),
        *(Voice(name, _F, scale=0.88) for name in ("Andrea", "steph")),
        *(Voice(name, _F, scale=0.94) for name in ("aunty", "shelby")),
        *(Voice(name, _F, scale=1.06) for name in ("Andrea", "steph2")),
        *(Voice(name, _F, scale=1.1) for name in ("f4", "aunty")),
        Voice("f2", _F, timbre="breathy"),
        Voice("f3", _F, timbre="breathy"),
        Voice("m1", _M, "Elderly", "trembling"),
        Voice("f1", _F, "Elderly", "trembling"),
        Voice("f4", None, "Child", scale=1.5),
        Voice("aunty", None, "Child", scale=1.55),
    ),
    "dev": (
        Voice("m7", _M),
        Voice("pedro", _M),
        Voice("Alicia", _F, timbre="breathy"),
        # anika's and Annie's own pitch (290, 270 Hz) is a girl's; a longer tract brings it down.
        Voice("anika", _F, scale=0.82),
        Voice("croak", _M, "Elderly", "trembling"),
        Voice("Alicia", None, "Child", scale=1.25),
    ),
    "test": (
        Voice("m4", _M),
        Voice("Michael", _M),
        Voice("victor", _M, timbre="breathy"),
        Voice("f5", _F, timbre="breathy"),
        Voice("belinda", _F),
        Voice("Annie", _F, scale=0.92),
        Voice("grandpa", _M, "Elderly", "trembling"),
        Voice("grandma", _F, "Elderly", "trembling"),
        Voice("f5", None, "Child", scale=1.45),
    ),
}
# How often a speaker of an age is drawn, relative to an adult.
AGE_WEIGHT = {"Adult": 1.0, "Elderly": 1.0, "Child": 0.9}

# For each feeling: words a minute, pitch and pitch range (0-99), and RMS level; "effort"
# is the tilt of the spectrum (negative: soft voice, positive: pressed voice with added harmonics).
MANNERS: dict[str, dict[str, Any]] = {
    "Neutral": {"rate": (155, 175), "pitch": (42, 52), "range": (40, 55), "level": (0.06, 0.08)},
    "Happiness": {"rate": (190, 215), "pitch": (62, 72), "range": (85, 99), "level": (0.08, 0.10)},
    "Sadness": {"rate": (105, 125), "pitch": (18, 28), "range": (5, 15), "level": (0.03, 0.04)},
    "Anger": {"rate": (195, 225), "pitch": (34, 46), "range": (60, 75), "level": (0.14, 0.17)},
}
EFFORT = {"Neutral": 0.0, "Happiness": 0.25, "Sadness": -1.0, "Anger": 1.0}
EMOTIONS = tuple(MANNERS)


def draw_manner(emotion: str, rng: np.random.Generator) -> dict[str, float]:
    """Parameters of one utterance: rate (words/min), pitch, range (0-99), level (RMS), effort."""
    manner = {key: float(rng.uniform(low, high)) for key, (low, high) in MANNERS[emotion].items()}
    return {**manner, "effort": EFFORT[emotion]}


def prosody_phrase(manner: dict[str, float]) -> str:
    """What the parameters amount to, in words.

    >>> prosody_phrase({"rate": 110, "pitch": 20, "level": 0.03})
    'slow, low, soft'
    """
    words = []
    if manner["rate"] < 140 or manner["rate"] > 185:
        words.append("slow" if manner["rate"] < 140 else "fast")
    if manner["pitch"] < 30 or manner["pitch"] > 60:
        words.append("low" if manner["pitch"] < 30 else "high")
    if manner["level"] < 0.05 or manner["level"] > 0.12:
        words.append("soft" if manner["level"] < 0.05 else "loud")
    return ", ".join(words) or "even"
