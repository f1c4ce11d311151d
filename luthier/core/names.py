"""Names of tuned models: `ft:BASE:ORG:SUFFIX:ID`, and `…:ckpt-step-N` for a checkpoint.

An empty suffix keeps its colons (`ft:gpt-4o-mini-2024-07-18:personal::Ajo5kvNY`), as OpenAI prints it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAME = re.compile(
    r"ft:(?P<base>[^:]+):(?P<organization>[^:]*):(?P<suffix>[^:]*):(?P<id>[^:]+)(?::ckpt-step-(?P<step>\d+))?"
)


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


def parse_tuned_name(name: str) -> TunedName | None:
    """The parts of `name`, or None when it is not the name of a tuned model."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    step = match["step"]
    return TunedName(match["base"], match["organization"], match["suffix"], match["id"], int(step) if step else None)


def clean_suffix(suffix: str) -> str:
    """The suffix as it stands in a name: lower case, anything but letters, digits and `-` becomes `-`."""
    return re.sub(r"[^a-z0-9]+", "-", suffix.lower()).strip("-")
