"""The clips of a comparison: recordings with their texts, and the audio of every row."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from uas_plugin.errors import UASError
from uas_plugin.evaluation.judges.asr import base_language
from uas_plugin.evaluation.judges.measure import Sound
from uas_plugin.metrics.wer import seed_wer

TRUTH, VOCODER, SHUFFLED = "ground truth", "vocoder only", "shuffled recordings"


@dataclass(frozen=True)
class Reference:
    """A recording; ``text`` is "" where nothing is said, ``language`` "" where it is unknown."""

    id: str
    cut: Any
    text: str
    language: str


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        name: of the row.
        sounds: clip id -> audio.
        system: whether it is what is judged, and not a limit.
        facts: where it comes from, as JSON values.
    """

    name: str
    sounds: Mapping[str, Sound]
    system: bool = False
    facts: dict[str, Any] = field(default_factory=dict)


def read_references(path: Path, language: str | None = None) -> list[Reference]:
    """The recordings of a CutSet.

    Args:
        path: the manifest.
        language: of clips whose supervisions name none.

    Raises:
        UASError: the manifest is missing or empty, or two cuts have one id.
    """
    from uas_plugin.data.manifests import load_cuts

    found: dict[str, Reference] = {}
    for cut in load_cuts(path):
        if cut.id in found:
            raise UASError(f"{path}: two cuts have the id '{cut.id}'")
        found[cut.id] = _reference(cut, language)
    if not found:
        raise UASError(f"{path} holds no cut")
    return list(found.values())


def _reference(cut: Any, language: str | None) -> Reference:
    said = [s for s in cut.supervisions if (s.text or "").strip()]
    spoken = {base_language(s.language) for s in said if s.language}
    # A text in two languages has no one way to be counted.
    known = spoken.pop() if len(spoken) == 1 else "" if spoken else base_language(language or "")
    text = " ".join(s.text.strip() for s in said)
    if text and not seed_wer(text, "", known).reference_length:
        text = ""  # punctuation alone
    return Reference(cut.id, cut, text, known)


def read_system(name: str, folder: Path) -> dict[str, Any]:
    """Audio of a folder that ``uas reconstruct`` or ``codec_decode`` wrote: clip id -> cut or path.

    Raises:
        UASError: the folder holds neither manifest nor ``wav.scp``, or is unfinished.
    """
    from uas_plugin.data.manifests import load_cuts

    manifest, listed = folder / "cuts.jsonl.gz", folder / "wav.scp"
    if not manifest.is_file() and not listed.is_file():
        raise UASError(
            f"system '{name}': {folder} holds neither cuts.jsonl.gz nor wav.scp: "
            "`uas reconstruct` writes both"
        )
    if not (folder / "info.json").is_file():
        raise UASError(f"system '{name}': {folder} is unfinished: it has no info.json")
    if manifest.is_file():
        return {cut.id: cut for cut in load_cuts(manifest)}
    pairs = (line.split(maxsplit=1) for line in listed.read_text(encoding="utf-8").splitlines())
    return {key: path.strip() for key, path in pairs}


class Fingerprints:
    """Fingerprint of the audio of cuts and files; each file is read once."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}

    def sound(self, name: str, source: Any) -> Sound:
        """The audio of a cut or path.

        Raises:
            UASError: the file is missing.
        """
        path, part = str(source), ""
        if not isinstance(source, (str, Path)):
            recording = getattr(source, "recording", None)
            if recording is None or recording.sources[0].type != "file":
                raise UASError(f"cut {name}: only cuts of plain audio files are read here")
            path = str(recording.sources[0].source)
            part = f"{source.start}+{source.duration}"
        if path not in self.known:
            try:
                with open(path, "rb") as stream:
                    self.known[path] = hashlib.file_digest(stream, "sha256").hexdigest()
            except OSError as error:
                raise UASError(f"cut {name}: {path}: {error.strerror}") from None
        return Sound(name, source, f"{self.known[path]} {part}")


def make_row(
    name: str,
    sources: Mapping[str, Any],
    names: Sequence[str],
    fingerprints: Fingerprints,
    workers: int = 2,
    **rest: Any,
) -> tuple[Row, dict[str, str]]:
    """A row over the clips ``names``, and why clips of it cannot be used (clip id -> reason)."""

    def read(key: str) -> Sound | str:
        if key not in sources:
            return f"cut {key}: {name} lacks it"
        try:
            sound = fingerprints.sound(key, sources[key])
            sound.wave()
        except UASError as error:
            return f"{name}: {error}"
        return sound

    with ThreadPoolExecutor(workers) as pool:
        found = dict(zip(names, pool.map(read, names), strict=True))
    sounds = {key: sound for key, sound in found.items() if isinstance(sound, Sound)}
    failed = {key: reason for key, reason in found.items() if isinstance(reason, str)}
    return Row(name, sounds, **rest), failed


def shuffled_row(truth: Row, references: Iterable[Reference], seed: int) -> Row:
    """Each clip with another one's recording, of the same language, both spoken or both not.

    A clip that is alone in its group is not in the row.
    """
    groups: dict[tuple[bool, str], list[str]] = {}
    for one in references:
        if one.id in truth.sounds:
            groups.setdefault((bool(one.text), one.language), []).append(one.id)
    generator = np.random.default_rng(seed)
    sounds = {}
    for names in groups.values():
        if len(names) < 2:
            continue
        order = [names[k] for k in generator.permutation(len(names))]
        for place, name in enumerate(order):
            sounds[name] = truth.sounds[order[place - 1]]
    return Row(SHUFFLED, sounds, facts={"seed": seed})


def vocoder_only(
    codec: Any, references: Sequence[Reference], folder: Path, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Recordings through the codec's mel and vocoder, as FLAC: clip id -> path.

    What an interrupted run made with the same codec is kept. Recordings that cannot be read are
    left out.

    Args:
        codec: what `uas_plugin.load_codec` gives.
        references: the recordings.
        folder: made if absent.
        facts: of the codec; other ones begin anew.
    """
    import json
    import shutil

    from uas_plugin.atomic import write_json
    from uas_plugin.codec.decode import file_name, write_audio
    from uas_plugin.progress import progress

    mark = folder / "codec.json"
    known = json.loads(json.dumps(dict(facts)))
    if folder.exists() and not (
        mark.is_file() and json.loads(mark.read_text(encoding="utf-8")) == known
    ):
        shutil.rmtree(folder)
    write_json(mark, known)
    made = {}
    fingerprints = Fingerprints()
    for one in progress(references, desc=VOCODER):
        try:
            # Of other audio under the same id another file is made.
            key = hashlib.sha256(fingerprints.sound(one.id, one.cut).fingerprint.encode())
            path = folder / key.hexdigest()[:16] / file_name(one.id)
            if not path.exists():
                wav = _vocoded(codec, one)
                write_audio(path, wav, codec.sampling_rate)
        except UASError:
            continue  # the row of the recordings names it
        made[one.id] = path
    return made


def _vocoded(codec: Any, one: Reference) -> np.ndarray:
    import torch

    from uas_plugin.codec.mel import audio_log_mel
    from uas_plugin.data.audio import load_audio

    grid = codec.model.config.mel
    mel = audio_log_mel(load_audio(one.cut, grid.sampling_rate), grid.sampling_rate, grid)
    if not len(mel):
        raise UASError(f"cut {one.id}: shorter than a mel frame")
    return codec.vocode([torch.from_numpy(mel).to(codec.device)])[0]
