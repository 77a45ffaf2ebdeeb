"""Judges by kind and name. A judge's name stands in the table beside every figure it gave.

Each is given as ``NAME`` or ``NAME=PLACE`` (``whisper=FOLDER``). One that cannot work here says in
one line what to get and where to put it (:func:`find_judge`); no other takes its place.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from uas_plugin.errors import UASError, suggest

if TYPE_CHECKING:
    from uas_plugin.evaluation.judges.measure import Measure

READY = "ready"
_HERE = "uas_plugin.evaluation.judges"


@dataclass(frozen=True)
class Known:
    """A judge that this project can use.

    Attributes:
        place: what stands behind ``NAME=``; "" for none.
        required: whether it must be given.
        about: what it is, and what it is good for.
    """

    place: str
    required: bool
    about: str


#: kind -> (module:function that makes one of a specification, judges by name; the default first)
KINDS: Mapping[str, tuple[str, Mapping[str, Known]]] = {
    "asr": (
        "asr:recognizer",
        {
            "pocketsphinx": Known("", False, "English, offline; good for order alone"),
            "whisper": Known("FOLDER", False, "whisper-large-v3, the papers' judge of English"),
            "paraformer": Known("FOLDER", False, "paraformer-zh, the papers' judge of Chinese"),
        },
    ),
    "mos": (
        "mos:predictor",
        {
            "dnsmos": Known("", False, "DNSMOS P.835 and P.808, offline"),
            "utmos": Known("FOLDER", False, "UTMOS22 strong learner, through torch.hub"),
        },
    ),
    "speaker": (
        "speaker:SpeakerVector",
        {
            "resemblyzer": Known("", False, "GE2E, offline"),
            "wavlm": Known("FOLDER", True, "WavLM for speaker verification, SEED-TTS-eval's kind"),
            "campplus": Known("FILE.onnx", True, "CAM++, of the released token decoders"),
        },
    ),
    "embedding": (
        "embedding:embedding",
        {
            "mel": Known("", False, "spectra alone, offline; in no published figure"),
            "clap": Known("FOLDER", True, "LAION-CLAP, for FAD and CLAP scores"),
        },
    ),
    "versa": (
        "versa:back_end",
        {"versa": Known("FILE.yaml", True, "any metric of VERSA, where it is installed")},
    ),
}


def make_judge(kind: str, spec: str, device: str = "cpu") -> Measure:
    """A judge of a kind; nothing is loaded yet.

    Args:
        kind: one of :data:`KINDS`. spec: ``NAME`` or ``NAME=PLACE``. device: torch device.

    Raises:
        UASError: unknown kind or name.
    """
    if kind not in KINDS:
        raise UASError(
            f"unknown kind of judge '{kind}'.{suggest(kind, KINDS)} Known: {', '.join(KINDS)}"
        )
    module, _, function = KINDS[kind][0].partition(":")
    make: Any = getattr(importlib.import_module(f"{_HERE}.{module}"), function)
    return make(spec, device)


def find_judge(kind: str, spec: str, device: str = "cpu") -> Measure:
    """:func:`make_judge`, and its packages and files are there.

    Raises:
        UASError: it cannot work here: what to get, and where to put it.
    """
    found = make_judge(kind, spec, device)
    found.check()
    return found


def read_choices(specs: Sequence[str]) -> dict[str, list[str]]:
    """Specifications by kind of ``KIND=NAME`` or ``KIND=NAME=PLACE``, as options name judges.

    >>> read_choices(["asr=whisper=models/whisper", "mos=dnsmos"])
    {'asr': ['whisper=models/whisper'], 'mos': ['dnsmos']}

    Raises:
        UASError: unknown kind or name.
    """
    found: dict[str, list[str]] = {}
    for spec in specs:
        kind, _, rest = spec.partition("=")
        make_judge(kind, rest)
        found.setdefault(kind, []).append(rest)
    return found


def overview(given: Sequence[str] = (), device: str = "cpu") -> list[dict[str, str]]:
    """Every judge with whether it can work here: ``kind``, ``name``, ``about``, ``status``.

    Args:
        given: ``KIND=NAME=PLACE`` of judges with a place.
    """
    places = {(kind, spec.partition("=")[0]): spec
              for kind, specs in read_choices(given).items() for spec in specs}  # fmt: skip
    rows = []
    for kind, (_, known) in KINDS.items():
        for name, facts in known.items():
            spec = places.get((kind, name), name)
            try:
                missing = find_judge(kind, spec, device).fetches()
                status = (
                    f"would first fetch {missing}; offline: {name}=FOLDER" if missing else READY
                )
            except UASError as error:
                status = str(error)
            shown = f"{name}={facts.place}" if facts.required else name
            rows.append({"kind": kind, "name": shown, "about": facts.about, "status": status})
    return rows
