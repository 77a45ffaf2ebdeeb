"""Tokens of cuts and of their noisy views, by any tokenizer that ``load_tokenizer`` gives."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from uas_plugin.errors import UASError

#: ``(waveform (samples,) float32, its rate in Hz, generator)`` to the view, of the same form.
View = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class ClipFacts:
    """What a table needs of a cut beside its audio."""

    id: str
    language: str | None
    labels: Mapping[str, str]


@dataclass
class ModelTokens:
    """One row's tokens.

    Attributes:
        name: of the row.
        facts: of the model, as they stand in the JSON file.
        clean: clip id -> ids (T,) or (T, codebooks).
        noisy: kind of noise -> the same of the views.
        failed: clip id -> why it has no tokens.
    """

    name: str
    facts: dict[str, Any]
    clean: dict[str, np.ndarray] = field(default_factory=dict)
    noisy: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def parse_models(specs: Sequence[str]) -> list[tuple[str, str]]:
    """``(name, path)`` of each ``NAME=PATH`` or ``PATH`` (named after its last folder).

    Raises:
        UASError: two rows would have one name.
    """
    models: list[tuple[str, str]] = []
    for spec in specs:
        name, equals, path = spec.partition("=")
        if not equals or "/" in name or Path(spec).exists():
            name, path = Path(spec).resolve().name, spec
        if not name or not path:
            raise UASError(f"--model {spec}: give PATH or NAME=PATH")
        if name in (known for known, _ in models):
            raise UASError(f"two models are named '{name}': name them apart by --model NAME={path}")
        models.append((name, path))
    return models


def clip_facts(cuts: Sequence[Any], language_field: str | None = None) -> list[ClipFacts]:
    """Language and labels of each cut.

    Args:
        cuts: Lhotse cuts.
        language_field: the label that names the language; None for the supervisions' language.

    Raises:
        UASError: two cuts have one id, or no cut has the label ``language_field``.
    """
    clips: dict[str, ClipFacts] = {}
    for cut in cuts:
        if cut.id in clips:
            raise UASError(f"two cuts have the id '{cut.id}': give each its own")
        labels = _labels(cut)
        spoken = {s.language for s in cut.supervisions} - {None, ""}
        if language_field is not None:
            spoken = {labels[language_field]} if language_field in labels else set()
        # Of a cut in two languages no tokens can be told apart.
        clips[cut.id] = ClipFacts(cut.id, spoken.pop() if len(spoken) == 1 else None, labels)
    if language_field and not any(clip.language for clip in clips.values()):
        raise UASError(f"no cut has the label '{language_field}' of --language_field")
    return list(clips.values())


def _labels(cut: Any) -> dict[str, str]:
    """Labels that may be scored: none of mixtures, whose tokens are those of two sources."""
    from uas_plugin.qa.labels import cut_labels

    custom = (cut.supervisions[0].custom or {}) if cut.supervisions else {}
    if custom.get("kind") == "mix":
        return {}
    excluded = custom.get("unscored") or ()
    return {name: value for name, value in cut_labels(cut).items() if name not in excluded}


def paper_views(
    noise_cuts: Sequence[Any] | None = None, ood_noise_cuts: Sequence[Any] | None = None
) -> dict[str, View]:
    """The views of StableToken's evaluation, without those whose recordings are not given."""
    from uas_plugin.data.noise import EVAL, RECORDED, eval_view

    sources = {"real": noise_cuts, "real_ood": ood_noise_cuts}

    def view(
        kind: str, waveform: np.ndarray, rate: int, generator: np.random.Generator
    ) -> np.ndarray:
        return eval_view(waveform, kind, generator, sources.get(kind), sampling_rate=rate)

    kinds = [kind for kind in EVAL.strengths if kind not in RECORDED or sources[kind]]
    return {kind: functools.partial(view, kind) for kind in kinds}


def weight_hashes(path: str) -> dict[str, str]:
    """SHA-256 of each weight file that makes up the model, by file name."""
    from uas_plugin.checkpoint import final_weights
    from uas_plugin.provenance import file_sha256
    from uas_plugin.tokenizer.released import locate

    folder = locate(path)
    if (folder / "config.yaml").exists() and not (folder / "config.json").exists():
        files = [final_weights(folder)]
    else:
        files = sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".bin"))
    return {file.name: file_sha256(file) for file in files}


def tokenize(
    name: str,
    facts: Mapping[str, Any],
    tokenizer: Any,
    cuts: Sequence[Any],
    views: Mapping[str, View],
    *,
    seed: int,
    batch_size: int,
) -> ModelTokens:
    """Tokens of the cuts and of their views.

    Views are made at the recording's own rate, so that every model hears the same noise.

    Args:
        name: of the row.
        facts: of the model: path and the like; those of the tokenizer are added.
        tokenizer: what ``load_tokenizer`` gives.
        cuts: Lhotse cuts; those that cannot be read, or give no token, stand in ``failed``.
        views: kind of noise -> view.
        seed: with clip id and kind it decides a view's noise.
        batch_size: clips of 30 s encoded together.

    Raises:
        UASError: recorded noise cannot be used.
    """
    from uas_plugin.tokenizer.extract import Batching

    batching = Batching.of(batch_size)
    row = ModelTokens(name, {**facts, **_tokenizer_facts(tokenizer)})
    for key, ids in _encode(tokenizer, ((c.id, c) for c in cuts), len(cuts), name, batching):
        if isinstance(ids, UASError):
            row.failed[key] = str(ids)
        elif not len(ids):
            row.failed[key] = f"cut {key}: too short for a token"
        else:
            row.clean[key] = ids
    usable = [cut for cut in cuts if cut.id in row.clean]
    for kind, view in views.items():
        audios = _viewed(usable, kind, view, seed)
        found = _encode(tokenizer, audios, len(usable), f"{name}, {kind}", batching)
        row.noisy[kind] = {}
        for key, ids in found:
            if isinstance(ids, UASError):
                row.failed[key] = f"under {kind} noise: {ids}"
            else:
                row.noisy[kind][key] = ids
    return row


def _tokenizer_facts(tokenizer: Any) -> dict[str, Any]:
    flattened = getattr(tokenizer, "flattened_codebooks", 1)
    return {
        "sampling_rate": int(tokenizer.sampling_rate),
        "frame_rate": float(tokenizer.frame_rate),
        "codebook_size": int(tokenizer.codebook_size),
        "num_codebooks": int(tokenizer.num_codebooks),
        **({"flattened_codebooks": flattened} if flattened > 1 else {}),
    }


def _encode(
    tokenizer: Any, audios: Iterable[tuple[str, Any]], total: int, what: str, batching: Any
) -> Iterator[tuple[str, Any]]:
    from uas_plugin.progress import progress

    return progress(tokenizer.encode_stream(audios, batching), total, f"tokens of {what}")


def _viewed(
    cuts: Sequence[Any], kind: str, view: View, seed: int
) -> Iterator[tuple[str, tuple[np.ndarray, int]]]:
    from uas_plugin.data.audio import first_channel
    from uas_plugin.data.noise import view_generator

    for cut in cuts:
        rate = int(cut.sampling_rate)
        waveform = first_channel(cut, rate, cut.id)
        yield cut.id, (view(waveform, rate, view_generator(seed, cut.id, kind)), rate)


def untrained_like(
    tokenizer: Any, cuts: Sequence[Any], seed: int, max_frames: int, iterations: int
) -> Any:
    """A tokenizer of the same form and codebook size with random weights: the floor of a table.

    Raises:
        UASError: the tokenizer is none of this project's family, or the cuts hold too little audio
            for its codebook.
    """
    from uas_plugin.tokenizer.api import AudioTokenizer
    from uas_plugin.tokenizer.codebook import untrained_encoder

    if not isinstance(tokenizer, AudioTokenizer):
        raise UASError("--untrained: the first model must be a tokenizer of this family, no codec")
    try:
        encoder = untrained_encoder(
            tokenizer.encoder.config,
            cuts,
            seed=seed,
            max_frames=max_frames,
            iterations=iterations,
        )
    except UASError as error:
        raise UASError(f"--untrained: {error}; give more cuts, or leave it out") from None
    return AudioTokenizer(encoder).to(tokenizer.device, tokenizer.encoder.conv1.weight.dtype)
