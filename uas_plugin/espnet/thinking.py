"""Audio-thinking and its refinement in ESPnet's form (UniAudio 2.0, App. A.2).

Keys of ``--model_conf``. Thinking: ``llm``, a ``save_pretrained`` folder or a mapping with
``model_type`` and sizes for an untrained one; ``lora`` (LoraOptions), which freezes the rest of it;
``commitment``. Refinement: those of `RefinementOptions`, ``question`` and ``judge``; model and text
tokenizer are those of the finished training in ``--thinking``. Shapes: `B` clips, `L` text ids.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from espnet2.torch_utils.device_funcs import force_gatherable
from espnet2.train.abs_espnet_model import AbsESPnetModel

from uas_plugin.audiollm.backbone import make_backbone
from uas_plugin.audiollm.options import from_section
from uas_plugin.audiollm.stages import LoraOptions, add_lora
from uas_plugin.checkpoint import fail_on, load_experiment, state_problems
from uas_plugin.codec.reasoning.folders import load_encoding
from uas_plugin.codec.reasoning.questions import (
    TEMPLATE,
    WORDINGS,
    Example,
    check_kinds,
    examples_of,
)
from uas_plugin.codec.reasoning.refinement import RefinementOptions, RefinementTraining
from uas_plugin.codec.reasoning.training import IGNORE, ThinkingTraining, whole_frames
from uas_plugin.data.text import load_text_tokenizer
from uas_plugin.errors import UASError, suggest
from uas_plugin.espnet.crops import crops, read_cuts, share_of_rank
from uas_plugin.espnet.task import Batch, rank_and_world
from uas_plugin.espnet.thinking_judge import make_judge

THINKING, REFINEMENT = "thinking", "refinement"
TRAINED = "training_model."  # before the names of the weights in a checkpoint
MODEL_KEYS = ("llm", "lora", "commitment")
BATCH_DEFAULTS: dict[str, Any] = {
    "size": 16, "seconds": 30.0, "valid_clips": 64, "kinds": [*WORDINGS], "max_ids": 512,
}  # fmt: skip


class ESPnetThinking(AbsESPnetModel):
    """Answering from reasoning tokens; the frozen encoders are in no checkpoint."""

    def __init__(self, training: ThinkingTraining, encoders: Any) -> None:
        super().__init__()
        self.training_model = training
        self._frozen = [encoders.eval()]  # a list is no module

    def features(self, wav: torch.Tensor) -> Any:
        """Of the frozen encoders: of ``wav`` (B, S) at 24 kHz."""
        with torch.no_grad():
            return whole_frames(self._frozen[0].to(wav.device)(wav))

    def forward(
        self,
        wav: torch.Tensor,
        wav_lengths: torch.Tensor,
        ids: torch.Tensor,
        labels: torch.Tensor,
        utt_id: list[str] | None = None,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor]:
        """Loss, statistics, weight (clips) of ``wav`` (B, S) with ``ids``, ``labels`` (B, L)."""
        loss, stats = self.training_model(self.features(wav), ids, labels)
        return force_gatherable((loss, stats, torch.tensor(len(wav)).to(loss.device)), loss.device)

    def collect_feats(self, wav: torch.Tensor, wav_lengths: torch.Tensor, **_: Any) -> Any:
        """The crops."""
        return {"wav": wav[..., None], "wav_lengths": wav_lengths}


class ESPnetRefinement(ESPnetThinking):
    """Drawing, judging, learning."""

    training_model: Any  # a RefinementTraining

    def forward(
        self,
        wav: torch.Tensor,
        wav_lengths: torch.Tensor,
        ids: torch.Tensor,
        labels: torch.Tensor,
        utt_id: list[str] | None = None,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor]:
        """Loss, statistics, weight (clips); of ``ids`` only the answers are looked at.

        Validation draws its answers from the batch's content.
        """
        training, generator = self.training_model, None
        if not self.training:
            seed = int(wav_lengths.sum())
            generator = torch.Generator(wav.device).manual_seed(seed)
        references = [
            training.decode(
                [i for i, label in zip(row, marks) if label not in (IGNORE, training.end)]
            )
            for row, marks in zip(ids.tolist(), labels.tolist(), strict=True)
        ]
        loss, stats = training(self.features(wav), references, generator)
        return force_gatherable((loss, stats, torch.tensor(len(wav)).to(loss.device)), loss.device)


def thinking_model(args: argparse.Namespace) -> ESPnetThinking:
    """The model of ``--phase thinking``."""
    if not args.text_tokenizer:
        raise UASError("thinking needs --text_tokenizer: folder of bpe.model or tokenizer.json")
    conf = _checked(args.model_conf, MODEL_KEYS)
    tokenizer = load_encoding(Path(args.codec))
    training = _thinking(tokenizer.model, args.text_tokenizer, conf)
    return ESPnetThinking(training, tokenizer.encoders)


def refinement_model(args: argparse.Namespace) -> ESPnetRefinement:
    """The model of ``--phase refinement``: it goes on from ``--thinking``."""
    if not args.thinking:
        raise UASError("refinement needs --thinking: the finished training that it goes on from")
    names = [f.name for f in fields(RefinementOptions)]
    conf = _checked(args.model_conf, (*names, "question", "judge"))
    options, state = load_experiment(args.thinking)
    if options.get("phase") != THINKING:
        raise UASError(f"{args.thinking} is no training of --phase thinking")
    weights = {name.removeprefix(TRAINED): value for name, value in state.items()}

    def finished() -> tuple[ThinkingTraining, Any]:
        tokenizer = load_encoding(Path(args.codec))
        made = _thinking(tokenizer.model, options["text_tokenizer"], options["model_conf"])
        fail_on(state_problems(made.state_dict(), weights), f"{args.thinking} does not fit")
        made.load_state_dict(weights)
        return made, tokenizer.encoders

    policy, encoders = finished()
    reference, _ = finished()
    text = load_text_tokenizer(options["text_tokenizer"])
    question = conf.pop("question", WORDINGS["analysis"][0])
    judge = make_judge(conf.pop("judge", "words"))
    training = RefinementTraining(
        policy,
        reference,
        text.encode(TEMPLATE.format(question=question)),
        _end(options["model_conf"], text),
        _decoder(text),
        judge,
        RefinementOptions(**conf),
    )
    return ESPnetRefinement(training, encoders)


def _decoder(text: Any) -> Any:
    """Ids to text; an untrained head may draw ids that stand for none."""
    return lambda ids: text.decode([i for i in ids if i < text.vocab_size])


def _thinking(model: Any, text_tokenizer: str, conf: Mapping[str, Any]) -> ThinkingTraining:
    llm = _llm(conf.get("llm"), load_text_tokenizer(text_tokenizer))
    if conf.get("lora") is not None:
        add_lora(llm, from_section(LoraOptions, conf["lora"], "model_conf.lora"))
    return ThinkingTraining(model.audio_thinking, llm, conf.get("commitment", 1.0))


def _llm(source: Any, text: Any) -> Any:
    """A folder's language model, or an untrained one of the tokenizer's ids and an end mark."""
    from transformers import AutoConfig, AutoModelForCausalLM

    if source is None:
        raise UASError("model_conf.llm: give a folder, or a mapping with model_type and sizes")
    if not isinstance(source, Mapping):
        if not (Path(source) / "config.json").is_file():
            raise UASError(f"model_conf.llm: {source} has no config.json")
        return AutoModelForCausalLM.from_pretrained(
            source, dtype=torch.float32, use_safetensors=True, attn_implementation="sdpa"
        )
    settings = dict(source)
    kind = settings.pop("model_type", "llama")
    end = text.vocab_size
    marks = {"vocab_size": end + 1, "eos_token_id": end, "bos_token_id": None, "pad_token_id": end}
    return make_backbone(AutoConfig.for_model(kind, **{**settings, **marks}))


def _end(conf: Mapping[str, Any], text: Any) -> int:
    """The id that ends an answer."""
    if isinstance(conf.get("llm"), Mapping):
        return text.vocab_size
    from transformers import AutoConfig

    found = AutoConfig.from_pretrained(conf["llm"]).eos_token_id
    return int(found[0] if isinstance(found, list) else found)


def thinking_batches(args: argparse.Namespace, mode: str, epoch: int) -> Iterator[Batch]:
    """One pass over the questions about the cuts, every question with a crop of its cut."""
    conf = {**BATCH_DEFAULTS, **_checked(args.batch_conf, BATCH_DEFAULTS)}
    check_kinds(conf["kinds"])
    train = mode == "train"
    path = args.train_cuts if train else args.valid_cuts
    rng = np.random.default_rng([args.seed, epoch if train else 0])
    asked = [
        (cut, example)
        for cut in read_cuts(path)
        for example in examples_of(cut, conf["kinds"], rng.integers)
    ]
    if not asked:
        raise UASError(f"{path}: no cut has an answer to any of: {', '.join(conf['kinds'])}")
    place = rank_and_world()
    if train:
        order = share_of_rank(len(asked), conf["size"], args.seed, epoch, place)
        crop = np.random.default_rng([args.seed, epoch, place[0]])
        chosen = [asked[i] for i in order]
    else:
        chosen, crop = asked[: conf["valid_clips"]], None
    options = _thinking_options(args)
    text = load_text_tokenizer(options["text_tokenizer"])
    end = _end(options["model_conf"], text)
    for at in range(0, len(chosen), conf["size"]):
        rows = chosen[at : at + conf["size"]]
        tensors = crops([cut for cut, _ in rows], conf["seconds"], crop)
        tensors |= texts([example for _, example in rows], text, end, conf["max_ids"])
        yield [f"{cut.id}-{example.kind}" for cut, example in rows], tensors


def _thinking_options(args: argparse.Namespace) -> Mapping[str, Any]:
    """``text_tokenizer`` and ``model_conf`` of the thinking, this training's or that before it."""
    if args.phase == THINKING:
        return vars(args)
    path = Path(args.thinking) / "config.yaml"
    if not path.is_file():
        raise UASError(f"no config.yaml in {args.thinking}: train --phase thinking first")
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def texts(
    examples: Sequence[Example], text: Any, end: int, max_ids: int
) -> dict[str, torch.Tensor]:
    """``ids`` (B, L) of questions and answers, ``labels`` (B, L) of the answers and their ends.

    Args:
        max_ids: longer ones are cut off.
    """
    rows = []
    for example in examples:
        question = text.encode(TEMPLATE.format(question=example.question))
        answer = [*text.encode(example.answer), end]
        rows.append(([*question, *answer][:max_ids], len(question)))
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.full((len(rows), longest), end)
    labels = torch.full_like(ids, IGNORE)
    for i, (row, before) in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        labels[i, before : len(row)] = torch.tensor(row[before:])
    return {"ids": ids, "labels": labels}


def _checked(given: Mapping[str, Any], known: Any) -> dict[str, Any]:
    for key in given:
        if key not in known:
            raise UASError(f"reasoning_codec: unknown key '{key}'.{suggest(key, known)}")
    return dict(given)
