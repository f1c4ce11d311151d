"""`/v1/evals`: evals, their runs, and what became of each row."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request

from luthier.api.auth import Inferrer, Reader, ThePlatform
from luthier.api.json_route import JsonRoute
from luthier.api.wire.base import ListedText
from luthier.api.wire.evals import (
    CreateEval,
    CreateRun,
    EvalAnswer,
    EvalDeleted,
    EvalsQuery,
    ItemAnswer,
    ItemsQuery,
    RunAnswer,
    RunDeleted,
    RunsQuery,
    UpdateEval,
)
from luthier.domain import evals

router = APIRouter(prefix="/evals", tags=["evals"], route_class=JsonRoute)


@router.post("", operation_id="createEval", status_code=201)
async def create(platform: ThePlatform, caller: Inferrer, body: CreateEval) -> EvalAnswer:
    """Say what is tested, and how."""
    return EvalAnswer.of(await evals.create(platform, caller, body.to_eval()))


@router.get("", operation_id="listEvals")
def list_evals(platform: ThePlatform, caller: Reader, query: Annotated[EvalsQuery, Query()]) -> ListedText[EvalAnswer]:
    """List the project's evals."""
    page = evals.list_page(platform, caller.project_id, query.wanted, order_by=query.order_by)
    return ListedText.of([EvalAnswer.of(tested) for tested in page.items], page.has_more)


@router.get("/{eval_id}", operation_id="getEval")
def retrieve(platform: ThePlatform, caller: Reader, eval_id: str) -> EvalAnswer:
    """One eval."""
    return EvalAnswer.of(evals.get(platform, caller.project_id, eval_id))


@router.post("/{eval_id}", operation_id="updateEval")
def update(platform: ThePlatform, caller: Inferrer, eval_id: str, body: UpdateEval) -> EvalAnswer:
    """Change an eval's name or metadata."""
    return EvalAnswer.of(evals.change(platform, caller.project_id, eval_id, name=body.name, metadata=body.metadata))


@router.delete("/{eval_id}", operation_id="deleteEval")
def delete(platform: ThePlatform, caller: Inferrer, eval_id: str) -> EvalDeleted:
    """Delete an eval and its runs."""
    evals.delete(platform, caller.project_id, eval_id)
    return EvalDeleted(eval_id=eval_id)


@router.post("/{eval_id}/runs", operation_id="createEvalRun", status_code=201)
def create_run(request: Request, platform: ThePlatform, caller: Inferrer, eval_id: str, body: CreateRun) -> RunAnswer:
    """Grade rows."""
    source = body.source_document()
    run = evals.create_run(platform, caller, eval_id, name=body.name, data_source=source, metadata=body.metadata)
    return RunAnswer.of(run, str(request.base_url))


@router.get("/{eval_id}/runs", operation_id="getEvalRuns")
def list_runs(
    request: Request, platform: ThePlatform, caller: Reader, eval_id: str, query: Annotated[RunsQuery, Query()]
) -> ListedText[RunAnswer]:
    """List an eval's runs."""
    page = evals.list_runs(platform, caller.project_id, eval_id, query.wanted, status=query.status)
    return ListedText.of([RunAnswer.of(run, str(request.base_url)) for run in page.items], page.has_more)


@router.get("/{eval_id}/runs/{run_id}", operation_id="getEvalRun")
def retrieve_run(request: Request, platform: ThePlatform, caller: Reader, eval_id: str, run_id: str) -> RunAnswer:
    """One run."""
    return RunAnswer.of(evals.get_run(platform, caller.project_id, eval_id, run_id), str(request.base_url))


@router.post("/{eval_id}/runs/{run_id}", operation_id="cancelEvalRun")
@router.post("/{eval_id}/runs/{run_id}/cancel", operation_id="cancelEvalRunByName")
def cancel_run(request: Request, platform: ThePlatform, caller: Inferrer, eval_id: str, run_id: str) -> RunAnswer:
    """End a run early; what was graded stays. Clients know two paths for it, by their age."""
    return RunAnswer.of(evals.cancel_run(platform, caller.project_id, eval_id, run_id), str(request.base_url))


@router.delete("/{eval_id}/runs/{run_id}", operation_id="deleteEvalRun")
def delete_run(platform: ThePlatform, caller: Inferrer, eval_id: str, run_id: str) -> RunDeleted:
    """Delete a run and its items."""
    evals.delete_run(platform, caller.project_id, eval_id, run_id)
    return RunDeleted(run_id=run_id)


@router.get("/{eval_id}/runs/{run_id}/output_items", operation_id="getEvalRunOutputItems")
def list_items(
    platform: ThePlatform, caller: Reader, eval_id: str, run_id: str, query: Annotated[ItemsQuery, Query()]
) -> ListedText[ItemAnswer]:
    """List what became of a run's rows."""
    page = evals.list_items(platform, caller.project_id, eval_id, run_id, query.wanted, status=query.status)
    return ListedText.of([ItemAnswer.of(item) for item in page.items], page.has_more)


@router.get("/{eval_id}/runs/{run_id}/output_items/{output_item_id}", operation_id="getEvalRunOutputItem")
def retrieve_item(platform: ThePlatform, caller: Reader, eval_id: str, run_id: str, output_item_id: str) -> ItemAnswer:
    """What became of one row."""
    return ItemAnswer.of(evals.get_item(platform, caller.project_id, eval_id, run_id, output_item_id))
