"""Names of tuned models: `ft:BASE:ORG:SUFFIX:ID`, and `…:ckpt-step-N` for a checkpoint.

An empty suffix keeps its colons (`ft:gpt-4o-mini-2024-07-18:personal::Ajo5kvNY`), as OpenAI prints it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class TunedName:
    """The parts of a tuned model's name. `step` is set for a checkpoint alone."""

    base: str
    organization: str
    suffix: str
    id: str
    step: int | None = None

    def __str__(self) -> str:
        name = f"ft:{self.base}:{self.organization}:{self.suffix}:{self.id}"
        return name if self.step is None else f"{name}:ckpt-step-{self.step}"

    def at_step(self, step: int) -> TunedName:
        """The name of this model's checkpoint at an optimiser step."""
        return TunedName(self.base, self.organization, self.suffix, self.id, step)


def clean_suffix(suffix: str) -> str:
    """The suffix as it stands in a name: lower case, anything but letters, digits and `-` becomes `-`."""
    return re.sub(r"[^a-z0-9]+", "-", suffix.lower()).strip("-")
