"""What a judge is: it says something of a clip's audio, alone or beside its recording.

A judge that cannot work here says so (:meth:`Measure.check`), in one line with what to get and
where to put it; nothing else takes its place.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uas_plugin.codec.speaker import missing_package
from uas_plugin.errors import UASError

RATE = 16_000  # Hz that judges hear


@dataclass(frozen=True)
class Sound:
    """Audio of a clip: a Lhotse cut or a path, and the fingerprint of its samples' bytes."""

    id: str
    source: Any
    fingerprint: str

    def wave(self, sampling_rate: int = RATE) -> np.ndarray:
        """Samples (S,) float32, mono, at ``sampling_rate`` Hz."""
        from uas_plugin.data.audio import load_audio

        return load_audio(self.source, sampling_rate)


@dataclass(frozen=True)
class Item:
    """What is measured: ``made`` audio; ``reference`` only for a measure of pairs.

    ``fit``: the made audio is repeated or cut to the reference's length (of another clip's audio,
    which has no reason to be as long).
    """

    made: Sound
    reference: Sound | None = None
    language: str = ""
    fit: bool = False

    def key(self) -> list[str]:
        """What its measurement depends on."""
        known = self.reference.fingerprint if self.reference is not None else ""
        return [self.made.fingerprint, known, self.language, "fit" if self.fit else ""]


class Measure:
    """One measurement. It can be sent to another process; its model is loaded when first used.

    Attributes:
        name: what its results are kept under.
        pairs: whether it needs the reference.
        packages: modules that must be installed.
        extra: the extra that holds them.
        main_process: holds a large model or threads of its own, so that workers do not help.
        chunk: clips measured before results are kept; they are lost at most when a run is killed.
    """

    name = ""
    chunk = 32
    pairs = False
    packages: tuple[str, ...] = ()
    extra = "judges"
    main_process = False

    def settings(self) -> dict[str, Any]:
        """What decides its results, as JSON values; it stands in the report."""
        return {"name": self.name, "versions": package_versions(self.packages)}

    @property
    def title(self) -> str:
        """Its name in tables."""
        return self.name

    def check(self) -> None:
        """Raise UASError, naming what to get, unless the packages and files it needs are there."""
        for package in self.packages:
            if importlib.util.find_spec(package) is None:
                raise missing_package(package, self.name, self.extra)

    def fetches(self) -> str:
        """What would be downloaded when it is first used; "" where all is here."""
        return ""

    def load(self) -> Any:
        """The model behind it, made once a process as `model`."""
        return None

    @functools.cached_property
    def model(self) -> Any:
        """What `load` gives."""
        return self.load()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "model"}

    def measure(self, items: Sequence[Item]) -> list[Any]:
        """A JSON value for each item; None where it does not apply."""
        raise NotImplementedError


class PairMeasure(Measure):
    """A measurement of made audio beside its recording, sample by sample.

    Both are cut to the shorter one. It does not apply where the lengths differ by more than a
    token's time can explain: what is compared would not be the same speech.
    """

    pairs = True
    sampling_rate = RATE
    shortest = 0.1  # seconds

    def compare(self, reference: np.ndarray, made: np.ndarray) -> float | None:
        """The value of two waveforms (S,) of one length at ``sampling_rate``."""
        raise NotImplementedError

    def measure(self, items: Sequence[Item]) -> list[Any]:
        values: list[Any] = []
        for item in items:
            assert item.reference is not None
            reference = item.reference.wave(self.sampling_rate)
            made = item.made.wave(self.sampling_rate)
            if item.fit:
                made = np.resize(made, len(reference))
            if not same_length(len(reference), len(made), self.sampling_rate):
                values.append(None)
                continue
            count = min(len(reference), len(made))
            if count < self.shortest * self.sampling_rate:
                values.append(None)
                continue
            values.append(self.compare(reference[:count], made[:count]))
        return values


#: Seconds, and share of the reference, by which the length of made audio may differ.
SLACK_SECONDS, SLACK_SHARE = 0.2, 0.05


def same_length(reference: int, made: int, sampling_rate: int) -> bool:
    """Whether two lengths in samples may be of the same audio."""
    allowed = max(SLACK_SECONDS * sampling_rate, SLACK_SHARE * reference)
    return abs(reference - made) <= allowed


def model_files(folder: str) -> dict[str, str]:
    """SHA-256 of the weights in a ``save_pretrained`` folder, by name; {} for a hub's name."""
    from uas_plugin.provenance import file_sha256

    place = Path(folder)
    files = sorted(place.glob("*.safetensors")) if place.is_dir() else []
    return {file.name: file_sha256(file) for file in files}


def to_fetch(name: str) -> str:
    """``name`` of a model where it is one on a hub that has not been downloaded yet, or ""."""
    if Path(name).is_dir():
        return ""
    from huggingface_hub import try_to_load_from_cache

    return "" if isinstance(try_to_load_from_cache(name, "config.json"), str) else name


def check_model(judge: str, folder: str, released: str = "") -> None:
    """Raise UASError unless ``folder`` can be loaded by transformers, as far as its files tell.

    Args:
        judge: named in the message. folder: a folder, or a name on a hub.
        released: the published model, a name on the hub.
    """
    get = f"download {released} to a folder and pass {judge}=FOLDER" if released else ""
    place = Path(folder)
    if folder and place.is_dir():
        if not (place / "config.json").is_file() or not any(place.glob("*.safetensors")):
            raise UASError(
                f"{judge}: {folder} holds no model (config.json and *.safetensors); {get}"
            )
    elif not re.fullmatch(r"[\w.-]+/[\w.-]+", folder) or place.parent.is_dir():
        raise UASError(f"{judge}: there is no folder {folder or '(none was given)'}; {get}")


def package_versions(packages: Sequence[str]) -> dict[str, str]:
    """Installed versions of modules, by module."""
    from importlib import metadata

    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def split_spec(spec: str, known: Sequence[str], what: str) -> tuple[str, str]:
    """``(name, path)`` of ``NAME`` or ``NAME=PATH``.

    Raises:
        UASError: the name is none of ``known``.
    """
    from uas_plugin.errors import suggest

    name, _, path = spec.partition("=")
    if name not in known:
        raise UASError(f"unknown {what} '{name}'.{suggest(name, known)} Known: {', '.join(known)}")
    return name, path
