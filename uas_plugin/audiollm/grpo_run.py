"""GRPO of an exported AudioLLM on the clips of a token dump: a folder in, a folder out."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from uas_plugin.atomic import atomic_path, write_json, write_jsonl
from uas_plugin.audiollm.api import AudioLLMGenerator, load_audiollm
from uas_plugin.audiollm.decode import Request, make_requests
from uas_plugin.audiollm.grpo import GRPO, GRPOOptions, Prompt, mean_reward
from uas_plugin.audiollm.options import DecodeOptions
from uas_plugin.audiollm.rewards import (
    Reward,
    choice_reward,
    schema_reward,
    transcription_reward,
)
from uas_plugin.checkpoint import load_weights
from uas_plugin.data.manifests import custom_of
from uas_plugin.data.targets import asr_target
from uas_plugin.data.tokens import load_token_cuts, read_token_text
from uas_plugin.errors import UASError
from uas_plugin.progress import progress
from uas_plugin.provenance import file_sha256

REWARDED = ("uas", "asr", "qa")
WEIGHTS = "model.safetensors"
CHECKPOINT, CURVE, RESULT = "checkpoint.pth", "grpo.jsonl", "grpo.json"


def make_prompts(
    cuts: Sequence[Any],
    tokens: Mapping[str, Any],
    labels: Mapping[str, Sequence[str]],
    tasks: Sequence[str],
) -> list[Prompt]:
    """What is asked of the decoding stage, with what an answer is worth.

    Raises:
        UASError: a task whose answers have no reward (speech).
    """
    if wrong := set(tasks) - set(REWARDED):
        raise UASError(f"grpo: no reward for {', '.join(sorted(wrong))}: take {REWARDED}")
    known = {cut.id: cut for cut in cuts if cut.id in tokens}
    asked = make_requests(list(known.values()), labels, DecodeOptions(tasks=tuple(tasks)))
    return [
        Prompt(request.messages(task, tokens[request.id]), _reward(task, request, known))
        for task, requests in asked.items()
        for request in requests
    ]


def _reward(task: str, request: Request, cuts: Mapping[str, Any]) -> Reward:
    if task == "qa":
        assert request.item is not None
        return choice_reward(request.item["choices"], request.item["answer"])
    cut = cuts[request.id]
    language = (cut.supervisions[0].language if cut.supervisions else None) or "en"
    if task == "asr":
        return transcription_reward(asr_target(cut), language)
    return schema_reward(custom_of(cut)["uas"], language)


def dump_prompts(llm: AudioLLMGenerator, folder: Path, tasks: Sequence[str]) -> list[Prompt]:
    """The prompts of one set of a token dump."""
    cuts = list(load_token_cuts(folder))
    return make_prompts(cuts, read_token_text(folder), llm.vocabulary.labels, tasks)


def run_grpo(
    model: str | os.PathLike[str],
    tokens_dir: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    options: GRPOOptions,
    *,
    tasks: Sequence[str] = ("uas", "qa"),
    device: str = "cpu",
) -> dict[str, float]:
    """Learn on the dump's ``train``, judge on its ``dev``.

    Writes a folder like ``model`` with the learned weights, ``grpo.jsonl`` (a line a step; those
    that were judged have ``dev_reward``) and ``grpo.json`` (mean worth of greedy answers to ``dev``
    before and after, which is returned). Stopped and called again, it goes on from its last
    checkpoint, to the same result.

    Raises:
        UASError: a folder is missing, nothing can be asked, or the checkpoint there belongs to
            another model, to other options or tasks.
    """
    llm, output = load_audiollm(model, device=device, dtype="float32"), Path(output_dir)
    if output.resolve() == Path(model).resolve():
        raise UASError(f"grpo: {output} is the model to start from: write to another folder")
    learned, judged = (dump_prompts(llm, Path(tokens_dir) / s, tasks) for s in ("train", "dev"))
    judge = partial(mean_reward, llm, judged, max_new_tokens=options.max_new_tokens)
    output.mkdir(parents=True, exist_ok=True)
    learner, path = GRPO(llm, options), output / CHECKPOINT
    begun = {"model": file_sha256(Path(model) / WEIGHTS), "tasks": list(tasks), **_fixed(options)}
    curve = _resume(learner, path, begun)
    found = {"dev_before": curve[0]["dev_before"] if curve else judge()}
    left = options.steps - learner.step
    for step in progress(learner.train(learned), desc="GRPO", total=left):
        if not curve:
            step["dev_before"] = found["dev_before"]
        if options.judge_every and step["step"] % options.judge_every == 0:
            step["dev_reward"] = judge()
        curve.append(step)
        if step["step"] % options.save_every == 0:
            _checkpoint(path, {**learner.state(), "begun": begun, "curve": curve})
    found["dev_after"] = judge()
    write_jsonl(output / CURVE, curve)
    write_json(output / RESULT, found)
    _save(llm, Path(model), output)
    path.unlink(missing_ok=True)
    return found


def _fixed(options: GRPOOptions) -> dict[str, Any]:
    """What a resumed run must share; more steps, and how often it is saved, may change."""
    free = ("steps", "save_every", "judge_every")
    return {name: value for name, value in asdict(options).items() if name not in free}


def _checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    import torch

    with atomic_path(path) as temporary:
        torch.save(dict(state), temporary)


def _resume(learner: GRPO, path: Path, begun: Mapping[str, Any]) -> list[dict[str, float]]:
    """Load the checkpoint, if there is one; returns the curve so far."""
    if not path.exists():
        return []
    state = load_weights(path)
    if state["begun"] != begun:
        changed = sorted(key for key in begun if state["begun"].get(key) != begun[key])
        raise UASError(f"grpo: {path} was begun with another {', '.join(changed)}: remove it first")
    learner.load_state(state)
    logging.info("GRPO goes on behind step %d", learner.step)
    return state["curve"]


def _save(llm: AudioLLMGenerator, start: Path, output: Path) -> None:
    """The starting folder's files with the learned weights, these last."""
    with tempfile.TemporaryDirectory(dir=output, prefix=".tmp.") as temporary:
        llm.lm.save_pretrained(temporary, safe_serialization=True)
        for path in start.iterdir():
            if path.is_file() and not (Path(temporary) / path.name).exists():
                shutil.copyfile(path, Path(temporary) / path.name)
        for path in sorted(Path(temporary).iterdir(), key=lambda p: p.name == WEIGHTS):
            os.replace(path, output / path.name)
