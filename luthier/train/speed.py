"""What a model multiplies, and what its machine could at best: the share between them says how good a trainer is."""

from __future__ import annotations

import time
from typing import Final

import torch
from torch import Tensor

ROWS: Final = 1024  # of a product that keeps every core busy
TRIES: Final = 5


def measure_peak(weight_OI: Tensor) -> float:
    """FLOP/s of the fastest of a few products of 1,024 rows with this weight, in its type and on its device."""
    x_NI = torch.ones(ROWS, weight_OI.shape[1], dtype=weight_OI.dtype, device=weight_OI.device)
    seconds: list[float] = []
    for _ in range(TRIES):
        started = time.perf_counter()
        torch.nn.functional.linear(x_NI, weight_OI)[0, 0].item()
        seconds.append(time.perf_counter() - started)
    return 2.0 * ROWS * weight_OI.numel() / min(seconds)


def product_flops(parameters: int, tokens: int, *, learn: bool) -> float:
    """FLOP of multiplying tokens with frozen parameters: 2 a weight forward, and 2 more for the inputs' gradient."""
    return (4.0 if learn else 2.0) * parameters * tokens
