"""What graders share: the case that is graded, the grade, and the registry of kinds. Knows no kind and no HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Final, Protocol, Self, TypeVar

from luthier.core.errors import InvalidRequest
from luthier.core.evals import ModelUsage
from luthier.core.json import JsonObject
from luthier.domain.asking import Answer


@dataclass(frozen=True)
class Case:
    """What is graded: the row's `item`, the model's `sample`, and how to ask a model about them.

    `ask` sends a body to an endpoint. `embedding_model` is the one whose vectors are compared.
    """

    item: JsonObject
    sample: JsonObject
    ask: Callable[[str, JsonObject], Awaitable[Answer]]
    embedding_model: str


@dataclass(frozen=True)
class Errors:
    """What went wrong, by OpenAI's names."""

    formula_parse_error: bool = False
    sample_parse_error: bool = False
    truncated_observation_error: bool = False
    unresponsive_reward_error: bool = False
    invalid_variable_error: bool = False
    other_error: bool = False
    python_grader_server_error: bool = False
    python_grader_server_error_type: str | None = None
    python_grader_runtime_error: bool = False
    python_grader_runtime_error_details: str | None = None
    model_grader_server_error: bool = False
    model_grader_refusal_error: bool = False
    model_grader_parse_error: bool = False
    model_grader_server_error_details: str | None = None

    def found(self) -> JsonObject:
        """Those that happened."""
        return {f.name: value for f in fields(self) if (value := vars(self)[f.name])}


@dataclass(frozen=True)
class Grade:
    """A score and what it cost. `scores` are those of the graders inside a multi; `said` is a model grader's answer."""

    score: float = 0.0
    errors: Errors = Errors()
    usage: tuple[ModelUsage, ...] = ()
    scores: dict[str, float] = field(default_factory=dict)
    said: str | None = None


class Grader(Protocol):
    """A testing criterion. A score of `threshold` and more passes."""

    kind: ClassVar[str]

    @property
    def name(self) -> str: ...

    @property
    def threshold(self) -> float: ...

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Grader:
        """The grader that a document, checked at the door, describes."""
        ...

    async def check(self) -> None:
        """Errors: `InvalidRequest` for one that can never grade."""
        ...

    async def grade(self, case: Case) -> Grade:
        """The grade; whatever goes wrong is in its errors. Errors: `InvalidVariable`."""
        ...


@dataclass(frozen=True)
class Described:
    """A grader whose fields are its document's; what is null or not there is left to its default."""

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """The grader that a document, checked at the door, describes."""
        return cls(**{f.name: document[f.name] for f in fields(cls) if document.get(f.name) is not None})


class InvalidVariable(InvalidRequest):
    """A template names what the case does not have."""


G = TypeVar("G", bound=type[Grader])
KINDS: Final[dict[str, type[Grader]]] = {}


def register(kind: G) -> G:
    """Make a kind of grader known."""
    KINDS[kind.kind] = kind
    return kind


def of(document: Mapping[str, Any]) -> Grader:
    """The grader that a document, checked at the door, describes."""
    return KINDS[document["type"]].of(document)


async def grade(grader: Grader, case: Case) -> Grade:
    """The grade, a bad variable in its errors."""
    try:
        return await grader.grade(case)
    except InvalidVariable:
        return Grade(errors=Errors(invalid_variable_error=True))
