"""Which clips are decoded together.

On a GPU all that were given: it has room, and launches cost more than padding. On a CPU padding is
work, and large tensors leave the caches: clips of nearly the same length go together, and only
while they are short.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

CPU_FRAMES = 1024  # of a batch, padding included; one longer clip is a batch
CPU_PADDING = 0.1  # of a batch's frames, at most


def groups(frames: Sequence[int], device: torch.device) -> list[list[int]]:
    """Positions of clips with ``frames`` mel frames, batch by batch; every position once."""
    if device.type != "cpu":
        return [list(range(len(frames)))]
    found: list[list[int]] = []
    for k in sorted(range(len(frames)), key=lambda k: -frames[k]):
        if found:
            longest, size = frames[found[-1][0]], len(found[-1]) + 1
            if size * longest <= CPU_FRAMES and frames[k] >= (1 - CPU_PADDING) * longest:
                found[-1].append(k)
                continue
        found.append([k])
    return found
