"""Which clips are decoded together.

On a GPU all that were given: it has room, and launches cost more than padding. On a CPU padding is
work, and large tensors leave the caches: clips of nearly the same length go together, and only
while they are short.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

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


def each(
    batches: Sequence[Sequence[int]],
    work: Callable[[Sequence[int]], list[torch.Tensor]],
    device: torch.device,
) -> list[torch.Tensor]:
    """What ``work`` gives for every batch, put back in the order of the positions in them.

    On a CPU batches run side by side, a thread each: the layers are too small to be split well.
    ``work`` runs without gradients.
    """

    @torch.inference_mode()
    def run(batch: Sequence[int]) -> list[torch.Tensor]:
        return work(batch)

    threads = torch.get_num_threads()
    workers = min(threads, len(batches)) if device.type == "cpu" else 1
    if workers <= 1:
        results = [run(batch) for batch in batches]
    else:
        inner = max(1, threads // workers)
        # Autocast belongs to a thread, as inference mode does: the workers get the caller's.
        dtype, enabled = torch.get_autocast_dtype("cpu"), torch.is_autocast_enabled("cpu")

        def aside(batch: Sequence[int]) -> list[torch.Tensor]:
            with torch.autocast("cpu", dtype=dtype, enabled=enabled):
                return run(batch)

        pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(inner,))
        try:
            with pool:
                results = list(pool.map(aside, batches))
        finally:
            torch.set_num_threads(threads)  # the matrix library has one setting for all threads
    found = {
        i: value
        for batch, values in zip(batches, results, strict=True)
        for i, value in zip(batch, values, strict=True)
    }
    return [found[i] for i in sorted(found)]
