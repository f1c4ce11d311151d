"""AdamW over an adapter's one flat tensor, with the learning rate's course and the gradient's bound. Knows no data."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from luthier.train.lora import Adapter

MAX_GRADIENT_NORM: Final = 1.0
WARM_UP: Final = 0.06  # of all steps
BETAS: Final = (0.9, 0.99)  # a second moment over the last hundred steps: small runs have not more


class Optimiser:
    """One step at a time; the rate climbs over the first `WARM_UP` of the run and falls linearly to zero at its end."""

    def __init__(self, adapter: Adapter, learning_rate: float, total_steps: int) -> None:
        self._flat = adapter.flat
        self._rate = learning_rate
        self._total = total_steps
        self._warm_up = max(1, math.ceil(WARM_UP * total_steps))
        self._adam = torch.optim.AdamW([self._flat], lr=learning_rate, betas=BETAS, weight_decay=0.0, fused=True)

    def step(self, step: int) -> float:
        """Update the weights from their gradients, for the `step`th time from 1; the gradient's norm before its bound.

        A norm that is not finite changes nothing.
        """
        gradient = self._flat.grad
        assert gradient is not None
        norm = float(gradient.norm())
        if math.isfinite(norm):
            if norm > MAX_GRADIENT_NORM:
                gradient.mul_(MAX_GRADIENT_NORM / norm)
            done = step - 1
            self._adam.param_groups[0]["lr"] = self._rate * min(1.0, step / self._warm_up) * (1 - done / self._total)
            self._adam.step()
        gradient.zero_()
        return norm

    def tensors(self) -> dict[str, Tensor]:
        """The moments."""
        state = self._adam.state[self._flat]
        return {name: state[name] for name in ("exp_avg", "exp_avg_sq")}

    def load(self, tensors: dict[str, Tensor], step: int) -> None:
        """Set the moments to those of a run that has done `step` steps."""
        device = self._flat.device
        self._adam.state[self._flat] = {
            "step": torch.tensor(float(step)),
            **{name: tensor.to(device) for name, tensor in tensors.items()},
        }
