"""What `auto` means. A documented rule from the data's size and the model's: no search, no clock.

Epochs: OpenAI's own rule (its data-preparation cookbook): 3; fewer than 34 examples: 100 // n, at most 25; more than
8,333: 25,000 // n, at least 1. A model under a billion parameters learns less from a step, so it makes at least
`SMALL_STEPS` of them (50 chats in batches of 5: 5 epochs). Numbers behind the constants: `docs/lab-notes.md`.
"""

from __future__ import annotations

import math
from typing import Final

from luthier.core.run import Hyperparameters

SMALL_PARAMETERS: Final = 1_000_000_000
SMALL_STEPS: Final = 50
MAX_EPOCHS: Final = 25
MAX_BATCH: Final = 16
DPO_BETA: Final = 0.1  # OpenAI's default, and the DPO paper's


def resolve(
    *,
    examples: int,
    parameters: int,
    n_epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate_multiplier: float | None = None,
    beta: float | None = None,
    dpo: bool = False,
) -> Hyperparameters:
    """Numbers for every hyperparameter; None stands for `auto`. `parameters` is the base model's size."""
    batch_size = min(batch_size or auto_batch(examples), max(1, examples))
    multiplier = 1.0 if learning_rate_multiplier is None else learning_rate_multiplier
    return Hyperparameters(
        n_epochs=n_epochs or auto_epochs(examples, batch_size, parameters),
        batch_size=batch_size,
        learning_rate_multiplier=multiplier,
        learning_rate=multiplier * base_learning_rate(parameters, dpo=dpo),
        beta=(DPO_BETA if beta is None else beta) if dpo else None,
    )


def auto_epochs(examples: int, batch_size: int, parameters: int) -> int:
    """Passes over the data."""
    epochs = 3
    if 3 * examples < 100:
        epochs = min(MAX_EPOCHS, max(1, 100 // max(1, examples)))
    elif 3 * examples > 25_000:
        epochs = max(1, 25_000 // examples)
    if parameters < SMALL_PARAMETERS:
        steps_an_epoch = max(1, math.ceil(examples / batch_size))
        epochs = max(epochs, min(MAX_EPOCHS, math.ceil(SMALL_STEPS / steps_an_epoch)))
    return epochs


def auto_batch(examples: int) -> int:
    """Examples per optimiser step: a tenth of the data, 1 to `MAX_BATCH`, so that even ten examples make ten steps an
    epoch."""
    return min(MAX_BATCH, max(1, math.ceil(examples / 10)))


def base_learning_rate(parameters: int, *, dpo: bool = False) -> float:
    """LoRA's learning rate at multiplier 1: small models take larger steps, preference training a tenth of them."""
    rate = 1e-3 if parameters < SMALL_PARAMETERS else 2e-4
    return rate / 10 if dpo else rate
