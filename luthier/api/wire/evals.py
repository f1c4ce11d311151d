"""Evals on the wire: evals, runs, output items. What cannot be honoured is refused here, by its name."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from luthier.api.wire import graders
from luthier.api.wire.base import Answer, Body, Identified, Metadata, Ordered, Unsupported
from luthier.api.wire.chat import ResponseFormat, Seed, Temperature, Tool, TopP
from luthier.api.wire.responses import TextSettings
from luthier.api.wire.responses import Tool as ResponseTool
from luthier.core.evals import Eval, EvalRun, ItemStatus, OutputItem, RunStatus
from luthier.core.json import JsonObject
from luthier.domain.evals import NewEval


class CustomConfig(Body):
    """Rows that each run brings along."""

    type: Literal["custom"]
    item_schema: JsonObject
    include_sample_schema: bool = False


class StoredConfig(Body):
    """What was stored of chats or responses, with this metadata."""

    type: Literal["logs", "stored_completions"]
    metadata: Metadata | None = None


class TextSimilarity(graders.TextSimilarity):
    """With the score that passes."""

    pass_threshold: float


class PythonCode(graders.PythonCode):
    """With the score that passes: 0.5 where it is not given."""

    pass_threshold: float | None = None


class ScoreModel(graders.ScoreModel):
    """With the score that passes: the middle of the range where it is not given."""

    pass_threshold: float | None = None


Criterion = Annotated[
    graders.LabelModel | graders.StringCheck | TextSimilarity | PythonCode | ScoreModel, Field(discriminator="type")
]


class CreateEval(Body):
    """What is to be tested, and how."""

    data_source_config: Annotated[CustomConfig | StoredConfig, Field(discriminator="type")]
    testing_criteria: Annotated[list[Criterion], Field(min_length=1, max_length=64)]
    name: str | None = None
    metadata: Metadata | None = None

    def to_eval(self) -> NewEval:
        """What is asked for."""
        config = self.data_source_config
        custom = config if isinstance(config, CustomConfig) else None
        return NewEval(
            name=self.name,
            config_type=config.type,
            item_schema=custom.item_schema if custom else None,
            with_sample=custom.include_sample_schema if custom else True,
            config_metadata=config.metadata if isinstance(config, StoredConfig) else None,
            testing_criteria=[criterion.to_document() for criterion in self.testing_criteria],
            metadata=self.metadata,
        )


class UpdateEval(Body):
    """What of an eval can change."""

    name: str | None = None
    metadata: Metadata | None = None


class EvalsQuery(Ordered):
    """A page of evals."""

    order_by: Literal["created_at", "updated_at"] = "created_at"


class RunsQuery(Ordered):
    """A page of runs."""

    status: RunStatus | None = None


class ItemsQuery(Ordered):
    """A page of output items."""

    status: Literal["fail", "pass"] | None = None


class Line(Body):
    """A row, and what was said of it if it was asked before."""

    item: JsonObject
    sample: JsonObject | None = None


class FileContent(Body):
    """Rows in the request."""

    type: Literal["file_content"]
    content: Annotated[list[Line], Field(min_length=1)]


class FileId(Body):
    """Rows in a file."""

    type: Literal["file_id"]
    id: str


class StoredCompletions(Body):
    """Stored chats as rows."""

    type: Literal["stored_completions"]
    metadata: Metadata | None = None
    model: str | None = None
    created_after: int | None = None
    created_before: int | None = None
    limit: Annotated[int, Field(ge=1)] | None = None


class StoredResponses(Body):
    """Kept responses as rows."""

    type: Literal["responses"]
    metadata: Metadata | None = None
    model: str | None = None
    instructions_search: str | None = None
    created_after: Annotated[int, Field(ge=0)] | None = None
    created_before: Annotated[int, Field(ge=0)] | None = None
    reasoning_effort: graders.Effort = None
    temperature: float | None = None
    top_p: float | None = None
    users: list[str] | None = None
    tools: list[str] | None = None


class Template(Body):
    """Messages with places to be filled in."""

    type: Literal["template"]
    template: Annotated[list[graders.Message], Field(min_length=1)]


class ItemReference(Body):
    """Messages that are in each row."""

    type: Literal["item_reference"]
    item_reference: Annotated[str, Field(pattern=r"^item\.")]


InputMessages = Annotated[Template | ItemReference, Field(discriminator="type")]


class Params(Body):
    """How a model is sampled. OpenAI's own example calls the limit `max_completions_tokens`: both names will do."""

    temperature: Temperature | None = None
    top_p: TopP | None = None
    seed: Seed | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completions_tokens: Annotated[int, Field(ge=1)] | None = None
    reasoning_effort: graders.Effort = None


class ChatParams(Params):
    """What chats have besides."""

    response_format: ResponseFormat | None = None
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None


class ResponseParams(Params):
    """What responses have besides; they are asked without a seed."""

    seed: Annotated[Seed | None, Unsupported(why="responses know no seed; a run of type 'completions' does")] = None
    text: TextSettings | None = None
    tools: Annotated[list[ResponseTool], Field(max_length=128)] | None = None


class JsonlSource(Body):
    """Rows with what was said of them already."""

    type: Literal["jsonl"]
    source: Annotated[FileContent | FileId, Field(discriminator="type")]


class CompletionsSource(Body):
    """Rows that a model is asked in a chat; or stored chats, graded as they are."""

    type: Literal["completions"]
    source: Annotated[FileContent | FileId | StoredCompletions, Field(discriminator="type")]
    model: str | None = None
    input_messages: InputMessages | None = None
    sampling_params: ChatParams | None = None


class ResponsesSource(Body):
    """Rows that a model is asked as a response; or kept responses, graded as they are."""

    type: Literal["responses"]
    source: Annotated[FileContent | FileId | StoredResponses, Field(discriminator="type")]
    model: str | None = None
    input_messages: InputMessages | None = None
    sampling_params: ResponseParams | None = None


class CreateRun(Body):
    """A run over rows."""

    data_source: Annotated[JsonlSource | CompletionsSource | ResponsesSource, Field(discriminator="type")]
    name: str | None = None
    metadata: Metadata | None = None

    def source_document(self) -> JsonObject:
        """The data source as it was sent."""
        return self.data_source.model_dump(exclude_unset=True, exclude_none=True, by_alias=True)


class EvalAnswer(Identified):
    """An eval."""

    object: Literal["eval"] = "eval"
    name: str
    created_at: int
    data_source_config: JsonObject
    testing_criteria: list[JsonObject]
    metadata: dict[str, str] | None

    @staticmethod
    def of(tested: Eval) -> EvalAnswer:
        """The eval on the wire."""
        return EvalAnswer(
            id=tested.id,
            name=tested.name,
            created_at=tested.created_at,
            data_source_config=tested.data_source_config,
            testing_criteria=tested.testing_criteria,
            metadata=tested.metadata,
        )


class ResultCounts(Answer):
    """How many items ended how."""

    total: int
    errored: int
    failed: int
    passed: int


class CriterionCounts(Answer):
    """How many items passed a criterion."""

    testing_criteria: str
    passed: int
    failed: int


class RunAnswer(Identified):
    """A run. `model` is empty where none is asked."""

    object: Literal["eval.run"] = "eval.run"
    eval_id: str
    status: RunStatus
    model: str
    name: str
    created_at: int
    report_url: str
    result_counts: ResultCounts
    per_model_usage: list[dict[str, Any]]
    per_testing_criteria_results: list[CriterionCounts]
    data_source: JsonObject
    metadata: dict[str, str] | None
    error: JsonObject | None

    @staticmethod
    def of(run: EvalRun, base_url: str) -> RunAnswer:
        """The run on the wire. `base_url` ends with a slash."""
        total = run.passed + run.failed + run.errored
        counts = run.criteria.items()
        return RunAnswer(
            id=run.id,
            eval_id=run.eval_id,
            status=run.status,
            model=run.model,
            name=run.name,
            created_at=run.created_at,
            report_url=f"{base_url}v1/evals/{run.eval_id}/runs/{run.id}",
            result_counts=ResultCounts(total=total, errored=run.errored, failed=run.failed, passed=run.passed),
            per_model_usage=[dict(vars(used)) for used in run.usage],
            per_testing_criteria_results=[
                CriterionCounts(testing_criteria=name, passed=passed, failed=failed)
                for name, (passed, failed) in counts
            ],
            data_source=run.data_source,
            metadata=run.metadata,
            error=run.error,
        )


class ItemAnswer(Identified):
    """What became of a row."""

    object: Literal["eval.run.output_item"] = "eval.run.output_item"
    created_at: int
    run_id: str
    eval_id: str
    status: ItemStatus
    datasource_item_id: int
    datasource_item: JsonObject
    results: list[JsonObject]
    sample: JsonObject

    @staticmethod
    def of(item: OutputItem) -> ItemAnswer:
        """The item on the wire."""
        return ItemAnswer(
            id=item.id,
            created_at=item.created_at,
            run_id=item.run_id,
            eval_id=item.eval_id,
            status=item.status,
            datasource_item_id=item.row,
            datasource_item=item.item,
            results=item.results,
            sample=item.sample,
        )


class EvalDeleted(Answer):
    """The eval is gone."""

    object: Literal["eval.deleted"] = "eval.deleted"
    deleted: Literal[True] = True
    eval_id: str


class RunDeleted(Answer):
    """The run is gone."""

    object: Literal["eval.run.deleted"] = "eval.run.deleted"
    deleted: Literal[True] = True
    run_id: str
