"""`python`: a function of the user's, called in a jail."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from luthier.core.errors import InvalidRequest
from luthier.domain.graders import jail
from luthier.domain.graders.base import Case, Described, Errors, Grade, register


@register
@dataclass(frozen=True)
class PythonCode(Described):
    """The float that `grade(sample, item)` returns; anything else is an error, and scores 0."""

    kind: ClassVar[str] = "python"
    name: str
    source: str
    pass_threshold: float = 0.5

    @property
    def threshold(self) -> float:
        return self.pass_threshold

    async def check(self) -> None:
        outcome = await jail.run(self.source, {}, {}, only_check=True)
        if wrong := outcome.code_error or outcome.jail_error:
            raise InvalidRequest(f"Invalid 'source': {wrong}.", code="invalid_value", param="source")

    async def grade(self, case: Case) -> Grade:
        try:
            outcome = await jail.run(self.source, case.sample, case.item)
        except InvalidRequest as error:  # an eval's run on a server that has lost its jail
            outcome = jail.Outcome(jail_error=error.message)
        if outcome.jail_error is not None:
            errors = Errors(python_grader_server_error=True, python_grader_server_error_type=outcome.jail_error)
        elif outcome.score is None or not math.isfinite(outcome.score):
            details = outcome.code_error or "the score is not finite"
            errors = Errors(python_grader_runtime_error=True, python_grader_runtime_error_details=details)
        else:
            return Grade(outcome.score)
        return Grade(errors=errors)
