"""`string_check`: two texts are equal, or one has the other in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from luthier.domain.graders import templates
from luthier.domain.graders.base import Case, Grade, given, register


@register
@dataclass(frozen=True)
class StringCheck:
    """1 or 0. `like` and `ilike` ask whether the input contains the reference."""

    kind: ClassVar[str] = "string_check"
    threshold: ClassVar[float] = 1.0
    name: str
    input: str
    reference: str
    operation: Literal["eq", "ne", "like", "ilike"]

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> StringCheck:
        return cls(**given(cls, document))

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
