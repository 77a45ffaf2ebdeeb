"""How likely a model holds each of a question's choices, without letting it write.

A model that was never shown questions writes no option; what it holds likely can be asked of any.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from uas_plugin.audiollm.generation import Hear
from uas_plugin.audiollm.model import packed_mask
from uas_plugin.errors import UASError

Choices = Sequence[Sequence[int]]


@torch.inference_mode()
def choice_log_probabilities(
    lm: Any,
    prompts: Sequence[Sequence[int]],
    choices: Sequence[Choices],
    *,
    pad: int,
    hear: Hear | None = None,
    mean: bool = True,
) -> list[list[float]]:
    """Log-probability (nats) of each choice behind its prompt: mean over its tokens, or the sum.

    One row a prompt: the choices stand behind it, and see it and themselves only, each at the
    positions that it would have alone (as in training, ``packing.py``).

    Args:
        lm: a transformers causal LM. prompts: ids, not empty. choices: ids of each prompt's
            choices. hear: of a model with continuous audio input.

    Raises:
        UASError: a prompt without choices, or an empty choice.
    """
    if any(not wanted or not all(wanted) for wanted in choices):
        raise UASError("a question needs choices, and each of them some text")
    rows = _rows(prompts, choices, pad)
    device = next(lm.parameters()).device
    tokens, positions, items, before, owner = (value.to(device) for value in rows)
    given = {"input_ids": tokens} if hear is None else {"inputs_embeds": hear(tokens, prompts)}
    hidden = lm.base_model(
        **given,
        position_ids=positions,
        attention_mask=packed_mask(items.clamp_max(0), items),
        use_cache=False,
    ).last_hidden_state
    scored = items > 0
    row = scored.nonzero()[:, 0]
    logits = lm.get_output_embeddings()(hidden[row, before[scored]]).float()
    logp = logits.log_softmax(dim=-1).gather(1, tokens[scored][:, None])[:, 0].double()
    count = int(owner.max()) + 1
    total = logp.new_zeros(count).index_add(0, owner[scored], logp)
    if mean:
        total = total / torch.bincount(owner[scored], minlength=count)
    return _split(total.tolist(), [len(wanted) for wanted in choices])


def _rows(
    prompts: Sequence[Sequence[int]], choices: Sequence[Choices], pad: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """``(B, L)`` int64: ids; positions; items (0 prompt, 1, 2, ... choices, -1 padding); where the
    token before stands; number of the choice among all (where there is one).
    """
    length = max(
        len(prompt) + sum(map(len, wanted)) for prompt, wanted in zip(prompts, choices, strict=True)
    )
    shape = (len(prompts), length)
    tokens = torch.full(shape, pad)
    positions, before, owner = (torch.zeros(shape, dtype=torch.long) for _ in range(3))
    items = torch.full(shape, -1)
    number = 0
    for row, (prompt, wanted) in enumerate(zip(prompts, choices)):
        first = at = len(prompt)
        tokens[row, :at] = torch.tensor(list(prompt))
        positions[row, :at] = torch.arange(at)
        items[row, :at] = 0
        for item, ids in enumerate(wanted, start=1):
            here = slice(at, at + len(ids))
            tokens[row, here] = torch.tensor(list(ids))
            positions[row, here] = torch.arange(first, first + len(ids))
            items[row, here] = item
            before[row, here] = torch.arange(at - 1, at - 1 + len(ids))
            before[row, at] = first - 1
            owner[row, here] = number
            at += len(ids)
            number += 1
    return tokens, positions, items, before, owner


def _split(values: list[float], sizes: Sequence[int]) -> list[list[float]]:
    found, at = [], 0
    for size in sizes:
        found.append(values[at : at + size])
        at += size
    return found
