"""`score_model` and `label_model`: a model is asked for a score or a label, in a form that cannot be misread."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, ClassVar, Final

from luthier.core.errors import InvalidRequest
from luthier.core.evals import ModelUsage
from luthier.core.json import JsonObject, parsed
from luthier.domain.graders import templates
from luthier.domain.graders.base import Case, Described, Errors, Grade, register

# A model that thinks in steps without end is cut here, and its answer is then no answer.
MAX_TOKENS: Final = 2048


@register
@dataclass(frozen=True)
class ScoreModel(Described):
    """A number of `range`; what lies outside is clipped."""

    kind: ClassVar[str] = "score_model"
    name: str
    model: str
    input: list[JsonObject]
    sampling_params: dict[str, Any] = field(default_factory=dict)
    range: tuple[float, float] = (0.0, 1.0)
    pass_threshold: float | None = None

    @property
    def threshold(self) -> float:
        return sum(self.range) / 2 if self.pass_threshold is None else self.pass_threshold

    async def check(self) -> None:
        templates.check(templates.said(message["content"]) for message in self.input)
        if self.range[0] >= self.range[1]:
            raise InvalidRequest(
                "Invalid 'range': give the lower end first.", code="invalid_value", param="grader.range"
            )

    async def grade(self, case: Case) -> Grade:
        result, so_far = await _ask(case, self.model, self.input, {"type": "number"}, self.sampling_params)
        if isinstance(result, bool) or not isinstance(result, (int, float)) or not math.isfinite(result):
            return so_far
        lowest, highest = self.range
        return Grade(min(max(float(result), lowest), highest), usage=so_far.usage, said=so_far.said)


@register
@dataclass(frozen=True)
class LabelModel(Described):
    """1 for a label that passes, 0 for another."""

    kind: ClassVar[str] = "label_model"
    threshold: ClassVar[float] = 1.0
    name: str
    model: str
    input: list[JsonObject]
    labels: list[str]
    passing_labels: list[str]

    async def check(self) -> None:
        templates.check(templates.said(message["content"]) for message in self.input)
        if strange := [label for label in self.passing_labels if label not in self.labels]:
            raise InvalidRequest(
                f"Invalid 'passing_labels': {', '.join(strange)} is not among the labels.",
                code="invalid_value",
                param="passing_labels",
            )

    async def grade(self, case: Case) -> Grade:
        label, so_far = await _ask(case, self.model, self.input, {"type": "string", "enum": [*self.labels]}, {})
        if label not in self.labels:
            return so_far
        return Grade(float(label in self.passing_labels), usage=so_far.usage, said=so_far.said)


async def _ask(
    case: Case, model: str, messages: list[JsonObject], result: JsonObject, sampling: Mapping[str, Any]
) -> tuple[object, Grade]:
    """The model's result, and the grade if that is none: OpenAI's form has steps of thought before it."""
    thought: JsonObject = {"type": "string", "maxLength": 300}  # small models would go on until they are cut
    step = _object({"description": thought, "conclusion": thought})
    steps: JsonObject = {"type": "array", "maxItems": 3, "items": step}
    form: JsonObject = {"name": "grade", "strict": True, "schema": _object({"steps": steps, "result": result})}
    limit = sampling.get("max_completions_tokens") or MAX_TOKENS
    body: JsonObject = {
        "model": model,
        "messages": [*templates.fill_messages(messages, vars(case))],
        "response_format": {"type": "json_schema", "json_schema": form},
        "max_completion_tokens": limit,
        "seed": 42,
        **{k: v for k, v in sampling.items() if v is not None and not k.startswith("max_")},
    }
    answer = await case.ask("/v1/chat/completions", body)
    if answer.status_code != HTTPStatus.OK:
        error: Any = answer.body.get("error", answer.body)
        words = str(error.get("message", error) if isinstance(error, dict) else error)
        return None, Grade(errors=Errors(model_grader_server_error=True, model_grader_server_error_details=words))
    whole: dict[str, Any] = answer.body
    message, usage = whole["choices"][0]["message"], (ModelUsage.of(whole),)
    if message.get("refusal"):
        return None, Grade(errors=Errors(model_grader_refusal_error=True), usage=usage, said=message["refusal"])
    unread = Grade(errors=Errors(model_grader_parse_error=True), usage=usage, said=message["content"])
    try:
        read = parsed(message["content"] or "")
    except ValueError:
        return None, unread
    return read.get("result") if isinstance(read, dict) else None, unread


def _object(properties: JsonObject) -> JsonObject:
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}
