"""Use a unified LM: tasks in, text or ids of audio out."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from uas_plugin.atomic import atomic_path, write_json
from uas_plugin.audiollm.uniaudio2.config import (
    SpecialIds,
    config_dict,
    ids_of_dict,
    lm_config,
)
from uas_plugin.audiollm.uniaudio2.decoding import FrameDecoder
from uas_plugin.audiollm.uniaudio2.generate import (
    Batch,
    GenerationOptions,
    beam_search,
    generate_audio,
    generate_text,
    make_batch,
)
from uas_plugin.audiollm.uniaudio2.items import Item, fields_of
from uas_plugin.audiollm.uniaudio2.model import UniAudio2
from uas_plugin.audiollm.uniaudio2.packing import Packed, Packer
from uas_plugin.audiollm.uniaudio2.released import load_model, load_release
from uas_plugin.audiollm.uniaudio2.tasks import Task, choose_prompt, get_task, kind_of
from uas_plugin.audiollm.uniaudio2.text import HF_NAME, TextIds
from uas_plugin.checkpoint import load_experiment, load_weights
from uas_plugin.codec.reasoning.branches import BranchIds
from uas_plugin.data.text import MODEL_NAME
from uas_plugin.errors import UASError
from uas_plugin.hub import download

Answer = str | BranchIds | tuple[BranchIds, ...]
MODEL_TYPE, CONFIG, WEIGHTS = "uas_uniaudio2", "config.json", "model.safetensors"
RELEASE_CONFIG = "llm_config.yaml"
TEXT_FILES = (HF_NAME, MODEL_NAME)
HUB_FILES = (CONFIG, WEIGHTS, *TEXT_FILES, RELEASE_CONFIG, "*.checkpoint")
TRAINED = "training_model.model."  # attributes of the ESPnet wrapper
ROUND = 256  # caches are made for a multiple of so many frames, so that the next batch fits too


class UnifiedLM:
    """A model with its marks and text tokenizer; made by `load_unified_lm`.

    Attributes:
        mode: how frames are run, see `FrameDecoder`; None: CUDA graphs on a GPU, else eager.
    """

    mode: str | None = None

    def __init__(self, model: UniAudio2, ids: SpecialIds, text: TextIds) -> None:
        self.model, self.ids, self.text = model.eval(), ids, text
        self.packer = Packer(ids)
        self._held: FrameDecoder | None = None

    @property
    def device(self) -> torch.device:
        return self.model.projection.weight.device

    def pack(
        self, task: Task, item: Item, prompt: str, demonstrations: Sequence[Item] = ()
    ) -> Packed:
        """The sequence before what is generated.

        Raises:
            UASError: something is missing, malformed or too long.
        """
        return self.packer.pack(
            task,
            fields_of(task, item, self.text.encode),
            self.text.prompt(prompt),
            targets=False,
            demonstrations=[
                fields_of(task, one, self.text.encode, targets=True) for one in demonstrations
            ],
            max_frames=self.model.config.max_frames,
        )

    def generate(
        self,
        task: str,
        item: Item,
        *,
        prompt: str | None = None,
        demonstrations: Sequence[Item] = (),
        beams: int = 1,
        **options: Any,
    ) -> Answer:
        """The answer to one request.

        A text; the ids of both branches of a clip (of a task that makes one branch, with the other
        as it was given); or of a separation, two clips.

        Args:
            task: see `tasks.yaml`. prompt: wording of the task; default: one of ours.
            demonstrations: solved examples that come first (few-shot).
            beams: of a beam search; text tasks only.
            options: of `GenerationOptions`; a text is greedy unless ``topk`` is given.

        Raises:
            UASError: something is missing, malformed or too long, or no audio came out.
        """
        answer = self.generate_batch(
            task, [item], prompt=prompt, demonstrations=demonstrations, beams=beams, **options
        )[0]
        if isinstance(answer, UASError):
            raise answer
        return answer

    def generate_batch(
        self,
        task: str,
        items: Sequence[Item],
        *,
        prompt: str | None = None,
        demonstrations: Sequence[Item] = (),
        beams: int = 1,
        batch_size: int = 16,
        **options: Any,
    ) -> list[Answer | UASError]:
        """Answers to many requests, in order; one that has none gives its error.

        Prompts of like length stand in one batch; arguments as in `generate`.
        """
        known = get_task(task)
        wording = choose_prompt(known, text=prompt)
        chosen = _options(known, options)
        answers: list[Answer | UASError | None] = [None] * len(items)
        packed: dict[int, Packed] = {}
        for i, item in enumerate(items):
            try:
                packed[i] = self.pack(known, item, wording, demonstrations)
            except UASError as error:
                answers[i] = error
        order = sorted(packed, key=lambda i: len(packed[i]))
        for at in range(0, len(order), batch_size):
            rows = order[at : at + batch_size]
            found = self._run(
                known, [items[i] for i in rows], [packed[i] for i in rows], chosen, beams
            )
            for i, answer in zip(rows, found, strict=True):
                answers[i] = answer
        return [answer for answer in answers if answer is not None]

    def _run(
        self,
        task: Task,
        items: Sequence[Item],
        prompts: Sequence[Packed],
        options: GenerationOptions,
        beams: int,
    ) -> Sequence[Answer | UASError]:
        if beams > 1:
            if task.makes_audio:
                raise UASError(f"beam search writes text; {task.name} makes audio")
            return [self._beam(prompt, options, beams) for prompt in prompts]
        guided = options.guidance > 1
        batch = make_batch(prompts, self.packer if guided else None, self.device)
        decoder, options = self._decoder(batch, len(batch.tokens), options)
        if task.makes_audio:
            decoder.check(options.sampling, self.ids.reason_card)
            vocab = self.model.config.audio_vocab
            kinds = [kind_of(name) for name in task.targets]
            made = generate_audio(decoder, batch, self.ids, vocab, options, kinds)
            return [_clips(kinds, item, row) for item, row in zip(items, made, strict=True)]
        found = generate_text(decoder, batch, self.ids, options)
        return [self.text.decode(row) for row in found]

    def _beam(self, prompt: Packed, options: GenerationOptions, beams: int) -> str:
        batch = make_batch([prompt], None, self.device)
        decoder, options = self._decoder(batch, beams, options)
        found = beam_search(decoder, batch, self.ids, beams=beams, steps=options.steps)
        return self.text.decode(found)

    def _decoder(
        self, batch: Batch, rows: int, options: GenerationOptions
    ) -> tuple[FrameDecoder, GenerationOptions]:
        """Caches for a batch, those of the last one if they do, and options that fit into them."""
        limit = self.model.config.max_frames
        longest = batch.tokens.shape[1]
        steps = min(options.steps, limit - longest + 1)
        needed, padded = min(limit, longest + steps), bool(batch.pads.any())
        held = self._held
        fits = (
            held is not None
            and held.rows == rows
            and held.max_frames >= needed
            and (held.pads is not None) == padded
            and held.device == self.device
        )
        if held is None or not fits:
            frames = min(limit, -(-needed // ROUND) * ROUND)
            held = FrameDecoder(self.model, rows, frames, batch.pads if padded else None, self.mode)
            self._held = held
        held.start(batch.pads if padded else None)
        values = vars(options) | {"steps": steps}
        return held, GenerationOptions(**values)

    def save_pretrained(self, folder: str | os.PathLike[str], text_folder: Path) -> None:
        """Write a folder that `load_unified_lm` reads; the text tokenizer is copied."""
        from safetensors.torch import save_file

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(
            folder / CONFIG,
            {
                "model_type": MODEL_TYPE,
                "lm": config_dict(self.model.config),
                "special": config_dict(self.ids),
            },
        )
        for name in TEXT_FILES:
            source = Path(text_folder) / name
            if source.is_file() and source.resolve() != (folder / name).resolve():
                shutil.copyfile(source, folder / name)
        state = {k: v.detach().cpu().clone() for k, v in self.model.state_dict().items()}
        with atomic_path(folder / WEIGHTS) as temporary:
            save_file(state, temporary, metadata={"format": "pt"})


def _clips(
    kinds: Sequence[str], item: Item, segments: list[np.ndarray] | UASError
) -> BranchIds | tuple[BranchIds, ...] | UASError:
    """Generated segments as clips; the branch that a task does not make is the given one."""
    if isinstance(segments, UASError):
        return segments
    if len(kinds) == 1:
        assert item.audio is not None  # such a task starts from the other branch
        branch = "reasoning" if kinds[0] == "reason" else "reconstruction"
        return item.audio._replace(**{branch: segments[0]})
    clips = tuple(BranchIds(*segments[i : i + 2]) for i in range(0, len(segments), 2))
    return clips[0] if len(clips) == 1 else clips


def _options(task: Task, given: dict[str, Any]) -> GenerationOptions:
    defaults = {} if task.makes_audio else {"topk": 1}
    try:
        return GenerationOptions(**{**defaults, **given})
    except TypeError:
        known = ", ".join(GenerationOptions.__dataclass_fields__)
        unknown = sorted(set(given) - set(GenerationOptions.__dataclass_fields__))
        raise UASError(f"unknown option {', '.join(unknown)}; known: {known}") from None


def is_unified_lm(folder: Path) -> bool:
    """Whether ``folder`` is one of ours or a release's."""
    if (folder / RELEASE_CONFIG).is_file():
        return True
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(config, dict) and config.get("model_type") == MODEL_TYPE


def load_unified_lm(
    path: str | os.PathLike[str],
    device: str = "cpu",
    dtype: Any = None,
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    text_tokenizer: str | os.PathLike[str] | None = None,
) -> UnifiedLM:
    """Load a folder of ours, or a release: ``llm_config.yaml`` with its newest ``*.checkpoint``;
    or the name of either on a hub.

    Args:
        dtype: of the weights, a torch dtype or its name; default: as stored.
        checkpoint: of a release, if it is not the newest. text_tokenizer: folder of the text
            tokenizer, if it is another one.

    Raises:
        UASError: a file is missing or damaged, or the files do not fit each other.
    """
    folder = Path(path)
    if not folder.is_dir():
        folder = download(os.fspath(path), HUB_FILES)
    if not is_unified_lm(folder):
        raise UASError(f"{folder} holds no unified LM: {CONFIG} or {RELEASE_CONFIG} is looked for")
    if (folder / RELEASE_CONFIG).is_file():
        model, ids = _load_release(folder, checkpoint)
    else:
        settings = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        ids = ids_of_dict(settings.get("special", {}))
        config = lm_config(settings.get("lm", {}))
        model = load_model(config, load_weights(folder / WEIGHTS), str(folder / WEIGHTS))
    text = TextIds(Path(text_tokenizer) if text_tokenizer else folder, ids)
    dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    return UnifiedLM(model.to(device=device, dtype=dtype), ids, text)


def export(exp_dir: Path, text_folder: Path, folder: Path) -> None:
    """Write a finished training as one of our folders.

    Raises:
        UASError: it is not finished, or its weights do not fit its configuration.
    """
    options, state = load_experiment(exp_dir)
    conf = options["model_conf"]
    ids = ids_of_dict(conf.get("special", {}))
    weights = {name.removeprefix(TRAINED): value for name, value in state.items()}
    model = load_model(lm_config(conf.get("lm", {})), weights, str(exp_dir))
    UnifiedLM(model, ids, TextIds(text_folder, ids)).save_pretrained(folder, text_folder)


def _load_release(
    folder: Path, checkpoint: str | os.PathLike[str] | None
) -> tuple[UniAudio2, SpecialIds]:
    import yaml

    try:
        options = yaml.safe_load((folder / RELEASE_CONFIG).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UASError(f"{folder / RELEASE_CONFIG} is not plain YAML: {error}") from None
    if not isinstance(options, dict):
        raise UASError(f"{folder / RELEASE_CONFIG} must be a mapping of keys to values")
    found = sorted(folder.glob("*.checkpoint"), key=lambda p: p.stat().st_mtime)
    if checkpoint is None and not found:
        raise UASError(f"{folder} has no *.checkpoint")
    return load_release(Path(checkpoint) if checkpoint else found[-1], options)
