"""Graders on the wire. What cannot be honoured is refused here, by its name."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from luthier.api.wire.base import Answer, Body, Unsupported
from luthier.api.wire.chat import Seed, Temperature, TopP
from luthier.core.evals import ModelUsage
from luthier.core.json import JsonObject
from luthier.domain.graders import Grade, Grader

Name = Annotated[str, Field(min_length=1, max_length=256)]
Metric = Literal[
    "cosine",
    "fuzzy_match",
    "bleu",
    "gleu",
    "meteor",
    "rouge_1",
    "rouge_2",
    "rouge_3",
    "rouge_4",
    "rouge_5",
    "rouge_l",
]
Effort = Annotated[
    Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None, Unsupported(but=("none",))
]
MAX_SOURCE_LENGTH: Final = 256_000  # OpenAI's limit of 256 kB


class Text(Body):
    """Text in a message; templates are filled in."""

    type: Literal["input_text", "output_text", "text"]
    text: str

    @field_validator("type")
    @classmethod
    def _as_input(cls, kind: str) -> str:
        """Chats call it `text`; OpenAI's answers do not."""
        return "input_text" if kind == "text" else kind


class Medium(Body):
    """Pictures and sound: refused by name."""

    type: Annotated[Literal["input_image", "input_audio"], Unsupported()]
    image_url: Any = None
    file_id: Any = None
    detail: Any = None
    input_audio: Any = None


Part = Annotated[Text | Medium, Field(discriminator="type")]


class Message(Body):
    """A message to a model; templates are filled in."""

    role: Literal["user", "assistant", "system", "developer"]
    content: str | Part | list[str | Part]
    type: Literal["message"] = "message"

    @model_validator(mode="after")
    def _in_full(self) -> Self:
        """As OpenAI shows messages, however they were sent; its schema tells the kinds of messages apart by that."""
        if isinstance(self.content, str):
            self.content = Text(type="input_text", text=self.content)
        self.type = "message"
        return self


class GraderBody(Body):
    """What every grader has."""

    name: Name

    def to_document(self) -> JsonObject:
        """The grader as it was sent."""
        return self.model_dump(exclude_unset=True, exclude_none=True)


class StringCheck(GraderBody):
    """Two texts compared."""

    type: Literal["string_check"]
    input: str
    reference: str
    operation: Literal["eq", "ne", "like", "ilike"]


class TextSimilarity(GraderBody):
    """How near a text is to another."""

    type: Literal["text_similarity"]
    input: str
    reference: str
    evaluation_metric: Metric


class PythonCode(GraderBody):
    """A function of the user's. There is one image here, whatever `image_tag` names: this server's Python."""

    type: Literal["python"]
    source: Annotated[str, Field(max_length=MAX_SOURCE_LENGTH)]
    image_tag: str | None = None


class GraderSampling(Body):
    """How a grading model is sampled."""

    seed: Seed | None = None
    top_p: TopP | None = None
    temperature: Temperature | None = None
    max_completions_tokens: Annotated[int, Field(ge=1)] | None = None
    reasoning_effort: Effort = None


class ScoreModel(GraderBody):
    """A model's score."""

    type: Literal["score_model"]
    model: str
    input: Annotated[list[Message], Field(min_length=1)]
    sampling_params: GraderSampling | None = None
    range: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None


class LabelModel(GraderBody):
    """A model's choice among labels."""

    type: Literal["label_model"]
    model: str
    input: Annotated[list[Message], Field(min_length=1)]
    labels: Annotated[list[str], Field(min_length=1)]
    passing_labels: Annotated[list[str], Field(min_length=1)]


Single = Annotated[
    StringCheck | TextSimilarity | PythonCode | ScoreModel | LabelModel,
    Field(discriminator="type"),
]


class Multi(GraderBody):
    """Several graders and a formula. OpenAI's schema has one grader there, its example a list, its guide a map."""

    type: Literal["multi"]
    graders: Single | Annotated[list[Single], Field(min_length=1)] | Annotated[dict[str, Single], Field(min_length=1)]
    calculate_output: str


AnyGrader = Annotated[
    StringCheck | TextSimilarity | PythonCode | ScoreModel | Multi,
    Field(discriminator="type"),
]


class ValidateGrader(Body):
    """A grader to be looked at."""

    grader: AnyGrader


class RunGrader(Body):
    """A grader, and a case to be graded."""

    grader: AnyGrader
    model_sample: str
    item: JsonObject = Field(default_factory=dict)


class ValidatedGrader(Answer):
    """The grader will do."""

    grader: JsonObject


class GradeMetadata(Answer):
    """How a grade came about."""

    name: str
    type: str
    errors: JsonObject
    execution_time: float
    scores: dict[str, float]
    token_usage: int | None
    sampled_model_name: str | None


class GradeAnswer(Answer):
    """A grade."""

    reward: float
    metadata: GradeMetadata
    sub_rewards: dict[str, float]
    model_grader_token_usage_per_model: dict[str, dict[str, int]]

    @staticmethod
    def of(grader: Grader, grade: Grade, took_s: float) -> GradeAnswer:
        """The grade on the wire."""
        models: dict[str, ModelUsage] = {}
        for used in grade.usage:
            models[used.model_name] = used + models.get(used.model_name, ModelUsage(used.model_name))
        counted = ("prompt_tokens", "total_tokens", "completion_tokens", "cached_tokens")
        return GradeAnswer(
            reward=grade.score,
            metadata=GradeMetadata(
                name=grader.name,
                type=grader.kind,
                errors=dict(vars(grade.errors)),
                execution_time=took_s,
                scores=grade.scores,
                token_usage=sum(used.total_tokens for used in grade.usage) if grade.usage else None,
                sampled_model_name=grade.usage[0].model_name if grade.usage else None,
            ),
            sub_rewards=grade.scores,
            model_grader_token_usage_per_model={
                name: {count: vars(used)[count] for count in counted} for name, used in models.items()
            },
        )
