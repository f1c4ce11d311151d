"""`string_check`: two texts are equal, or one has the other in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from luthier.domain.graders import templates
from luthier.domain.graders.base import Case, Described, Grade, register


@register
@dataclass(frozen=True)
class StringCheck(Described):
    """1 or 0. `like` and `ilike` ask whether the input contains the reference."""

    kind: ClassVar[str] = "string_check"
    threshold: ClassVar[float] = 1.0
    name: str
    input: str
    reference: str
    operation: Literal["eq", "ne", "like", "ilike"]

    async def check(self) -> None:
        templates.check([self.input, self.reference])

    async def grade(self, case: Case) -> Grade:
        text, reference = (templates.fill(t, vars(case)) for t in (self.input, self.reference))
        holds = {
            "eq": text == reference,
            "ne": text != reference,
            "like": reference in text,
            "ilike": reference.casefold() in text.casefold(),
        }
        return Grade(float(holds[self.operation]))
