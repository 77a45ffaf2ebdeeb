"""Multiple choice by likelihood: which option would the model most probably write?

The score of an option is the log-probability of its tokens and of the end mark behind it, given
the prompt. That is the probability of the whole answer, so the scores of all options can be
compared as they are, and an option that begins another is not preferred for being short. Nothing is
generated, nothing needs parsing, and every model that shows its logits can be ranked like that.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def best_choice(scores: Sequence[float], choices: Sequence[str]) -> str:
    """The option with the highest score, the first of equals."""
    return choices[int(np.argmax(scores))]


def pad_left(prompts: Sequence[Sequence[int]], pad: int) -> dict[str, Any]:
    """``input_ids`` and ``attention_mask`` (B, L) int64 of prompts that end together."""
    import torch

    length = max(map(len, prompts))
    ids = torch.full((len(prompts), length), pad, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, length - len(prompt) :] = torch.as_tensor(list(prompt))
        mask[row, length - len(prompt) :] = 1
    return {"input_ids": ids, "attention_mask": mask}


def continuation_log_probs(
    lm: Any,
    inputs: Mapping[str, Any],
    continuations: Sequence[Sequence[int]],
    *,
    ends: Sequence[int],
    pad: int,
    positions: bool = True,
) -> list[float]:
    """Log-probability that each prompt is answered with its continuation and nothing more.

    Args:
        lm: a causal language model of transformers.
        inputs: of its forward pass for B prompts that end together (left-padded): ``input_ids`` and
            ``attention_mask`` (B, L), and whatever else belongs to the prompts.
        continuations: token ids behind each prompt.
        ends: ids that end an answer; the probability of an end is that of all of them.
        pad: an id for padding; it is masked.
        positions: give the model positions that count real tokens alone (not to be given to models
            that work out their own from the mask).
    """
    import torch

    device = inputs["input_ids"].device
    longest = max(map(len, continuations))
    added = torch.full((len(continuations), longest), pad, dtype=torch.long, device=device)
    real = torch.zeros_like(added)
    for row, ids in enumerate(continuations):
        added[row, : len(ids)] = torch.as_tensor(list(ids), device=device)
        real[row, : len(ids)] = 1
    mask = torch.cat([inputs["attention_mask"], real], dim=1)
    whole = {
        **inputs,
        "input_ids": torch.cat([inputs["input_ids"], added], dim=1),
        "attention_mask": mask,
    }
    takes = inspect.signature(lm.forward).parameters
    if positions and "position_ids" in takes:
        whole["position_ids"] = (mask.cumsum(dim=1) - 1).clamp_min(0)
    if "logits_to_keep" in takes:
        whole["logits_to_keep"] = longest + 1
    with torch.inference_mode():
        logits = lm(**whole, use_cache=False).logits
    # (B, longest + 1, V): the logits before each added token, and those behind the last one.
    found = logits[:, -longest - 1 :].double().log_softmax(dim=-1)
    chosen = found[:, :-1].gather(2, added[:, :, None])[:, :, 0]
    last = found[torch.arange(len(found), device=device), real.sum(dim=1)]
    ended = last[:, list(ends)].logsumexp(dim=-1)
    return ((chosen * real).sum(dim=1) + ended).tolist()
