"""What a machine can do at most, measured."""

from __future__ import annotations

import time
from typing import Any

import numpy as np


def matmul_rate(device: str, dtype: Any, seconds: float = 3.0) -> float:
    """Operations a second of a product of the large encoder's shape."""
    import torch

    rows = 8192 if device != "cpu" else 2048
    a = torch.randn(rows, 1280, device=device, dtype=dtype)
    b = torch.randn(1280, 5120, device=device, dtype=dtype)
    out = torch.empty(rows, 5120, device=device, dtype=dtype)
    rates, begin = [], time.perf_counter()
    while time.perf_counter() - begin < seconds or len(rates) < 5:
        start = time.perf_counter()
        for _ in range(4):
            torch.mm(a, b, out=out)
        if device != "cpu":
            torch.cuda.synchronize()
        rates.append(4 * 2 * rows * 1280 * 5120 / (time.perf_counter() - start))
    return float(np.median(rates))
