"""One row of a run: its model is asked, its criteria grade, and an output item comes of it. Writes nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from luthier.core.evals import EvalRun, ItemStatus, ModelUsage, OutputItem
from luthier.core.ids import new_id
from luthier.core.json import JsonObject
from luthier.domain import eval_samples, graders
from luthier.domain.asking import Answer
from luthier.domain.eval_rows import Row
from luthier.domain.eval_samples import Sample
from luthier.domain.graders import Case, Grade, Grader, InvalidVariable


@dataclass(frozen=True)
class Criterion:
    """A grader of an eval, by the id that results name."""

    id: str
    grader: Grader

    @staticmethod
    def of(document: dict[str, Any]) -> Criterion:
        """The criterion that an eval has as a document."""
        return Criterion(document["id"], graders.of(document))

    def result(self, grade: Grade) -> JsonObject:
        """A grade as an output item has it. One that went wrong says so, and neither passes nor counts as a failure."""
        said: JsonObject = {"output": [{"role": "assistant", "content": grade.said}]}
        result: JsonObject = {
            "name": self.id,
            "type": self.grader.kind,
            "score": grade.score,
            "passed": not grade.errors.found() and grade.score >= self.grader.threshold,
            "sample": said if grade.said is not None else None,
        }
        return {**result, "errors": grade.errors.found()} if grade.errors.found() else result


@dataclass(frozen=True)
class Graded:
    """What came of a row."""

    item: OutputItem
    usage: tuple[ModelUsage, ...]


async def grade(
    run: EvalRun,
    row: Row,
    criteria: Sequence[Criterion],
    ask: Callable[[str, JsonObject], Awaitable[Answer]],
    *,
    embedding_model: str,
    now: float,
) -> Graded:
    """Ask and grade. What goes wrong is in the item."""
    sample = row.sample or await _sampled(run, row, ask)
    results: list[JsonObject] = []
    usage = sample.usage
    if not sample.failed:
        case = Case(row.item, sample.names, ask, embedding_model)
        for criterion in criteria:
            given = await graders.grade(criterion.grader, case)
            results.append(criterion.result(given))
            usage += given.usage
    wrong = sample.failed or any("errors" in result for result in results)
    status: ItemStatus = "error" if wrong else "pass" if all(result["passed"] for result in results) else "fail"
    item = OutputItem(
        new_id("output_item"),
        run.id,
        run.eval_id,
        run.project_id,
        int(now),
        row.number,
        row.item,
        status,
        results,
        sample.shown,
    )
    return Graded(item, usage)


async def _sampled(run: EvalRun, row: Row, ask: Callable[[str, JsonObject], Awaitable[Answer]]) -> Sample:
    try:
        return await eval_samples.ask(run.data_source, row.item, ask)
    except InvalidVariable as error:
        return eval_samples.none(run.model, [], {"error": {"code": error.code, "message": error.message}})


def counted(run: EvalRun, graded: Graded) -> EvalRun:
    """The run with one more item in its counts."""
    usage = {used.model_name: used for used in run.usage}
    for used in graded.usage:
        usage[used.model_name] = usage.get(used.model_name, ModelUsage(used.model_name)) + used
    criteria = dict(run.criteria)
    for result in graded.item.results:
        passed, failed = criteria.get(str(result["name"]), (0, 0))
        if "errors" not in result:
            good = bool(result["passed"])
            criteria[str(result["name"])] = (passed + good, failed + (not good))
    status = graded.item.status
    return replace(
        run,
        passed=run.passed + (status == "pass"),
        failed=run.failed + (status == "fail"),
        errored=run.errored + (status == "error"),
        usage=list(usage.values()),
        criteria=criteria,
    )
