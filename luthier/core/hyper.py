"""What `auto` means. A documented rule from the data's size and the model's: no search, no clock.

Epochs: OpenAI's own rule (its data-preparation cookbook): 3; fewer than 34 examples: 100 // n, at most 25; more than
8,333: 25,000 // n, at least 1. A model under a billion parameters learns less from an example, so it sees `SMALL_SEEN`
of them, in at most `SMALL_EPOCHS` (50 chats: 5 epochs). Batches are a fifth of the data, and a run of few steps takes
larger ones. Numbers behind the constants: `docs/lab-notes.md`.
"""

from __future__ import annotations

import math
from typing import Final

from luthier.core.run import Hyperparameters

SMALL_PARAMETERS: Final = 1_000_000_000
SMALL_SEEN: Final = 800
SMALL_EPOCHS: Final = 5
MAX_EPOCHS: Final = 25
MAX_BATCH: Final = 16
FEW_STEPS: Final = 50  # of a run of fewer the learning rate is higher, by the root of how many times fewer ...
MOST_FASTER: Final = 2.0  # ... up to this
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
    n_epochs = n_epochs or auto_epochs(examples, parameters)
    multiplier = 1.0 if learning_rate_multiplier is None else learning_rate_multiplier
    steps = n_epochs * math.ceil(max(1, examples) / batch_size)
    return Hyperparameters(
        n_epochs=n_epochs,
        batch_size=batch_size,
        learning_rate_multiplier=multiplier,
        learning_rate=multiplier * base_learning_rate(parameters, steps, dpo=dpo),
        beta=(DPO_BETA if beta is None else beta) if dpo else None,
    )


def auto_epochs(examples: int, parameters: int) -> int:
    """Passes over the data."""
    epochs = 3
    if 3 * examples < 100:
        epochs = min(MAX_EPOCHS, max(1, 100 // max(1, examples)))
    elif 3 * examples > 25_000:
        epochs = max(1, 25_000 // examples)
    if parameters < SMALL_PARAMETERS:
        epochs = max(epochs, min(SMALL_EPOCHS, math.ceil(SMALL_SEEN / max(1, examples))))
    return epochs


def auto_batch(examples: int) -> int:
    """Examples per optimiser step: a fifth of the data, 1 to `MAX_BATCH`, so that ten examples make five steps an
    epoch. A step costs much that does not depend on how many examples it has."""
    return min(MAX_BATCH, max(1, math.ceil(examples / 5)))


def base_learning_rate(parameters: int, steps: int, *, dpo: bool = False) -> float:
    """LoRA's learning rate at multiplier 1: small models take larger steps, so do runs of few of them, preference
    training a tenth of them."""
    rate = 1e-3 if parameters < SMALL_PARAMETERS else 2e-4
    rate *= min(MOST_FASTER, max(1.0, math.sqrt(FEW_STEPS / steps)))
    return rate / 10 if dpo else rate
