"""`multi`: several graders, and a formula of their scores."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

from luthier.domain.graders import formula
from luthier.domain.graders.base import Case, Errors, Grade, Grader, grade, of, register


@register
@dataclass(frozen=True)
class Multi:
    """`graders` by the names that the formula calls them by."""

    kind: ClassVar[str] = "multi"
    threshold: ClassVar[float] = 0.5
    name: str
    graders: dict[str, Grader]
    calculate_output: str

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Multi:
        return cls(document["name"], _named(document["graders"]), document["calculate_output"])

    async def check(self) -> None:
        unknown = formula.names(formula.parse(self.calculate_output)) - self._variables().keys()
        if unknown:
            raise formula.FormulaError(
                f"Invalid formula '{self.calculate_output[:80]}': it names {', '.join(sorted(unknown))}; the graders "
                f"are {', '.join(self._variables())}.",
                code="invalid_value",
                param="calculate_output",
            )
        for grader in self.graders.values():
            await grader.check()

    async def grade(self, case: Case) -> Grade:
        grades = {name: await grade(grader, case) for name, grader in self.graders.items()}
        scores = {name: one.score for name, one in grades.items()}
        errors = Errors()
        for one in grades.values():
            errors = replace(
                errors, **{f.name: vars(one.errors)[f.name] or vars(errors)[f.name] for f in fields(errors)}
            )
        score = 0.0
        try:
            values = {variable: scores[name] for variable, name in self._variables().items()}
            score = formula.evaluate(formula.parse(self.calculate_output), values)
        except (formula.FormulaError, KeyError):
            errors = replace(errors, formula_parse_error=True)
        return Grade(score, errors, tuple(used for one in grades.values() for used in one.usage), scores)

    def _variables(self) -> dict[str, str]:
        """What the formula may say for each grader: its name, or, as in OpenAI's example, `KIND_score` of the only one
        of its kind."""
        kinds = Counter(grader.kind for grader in self.graders.values())
        alone = {f"{g.kind}_score": name for name, g in self.graders.items() if kinds[g.kind] == 1}
        return {**alone, **{f"{name}_score": name for name in self.graders}, **{name: name for name in self.graders}}


def _named(graders: list[dict[str, Any]] | dict[str, Any]) -> dict[str, Grader]:
    """A grader, a list of them or a map: OpenAI's schema, example and guide have one each."""
    if isinstance(graders, dict) and not isinstance(graders.get("type"), str):
        return {name: of(document) for name, document in graders.items()}
    listed = graders if isinstance(graders, list) else [graders]
    return {re.sub(r"\W+", "_", document["name"]): of(document) for document in listed}
