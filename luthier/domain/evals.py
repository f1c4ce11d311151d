"""Evals and their runs: made, listed, changed, canceled, deleted. `domain/eval_worker.py` runs them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, Literal

from luthier.core.errors import Conflict, InvalidRequest, NotFound
from luthier.core.evals import Eval, EvalRun, ItemStatus, OutputItem, RunStatus
from luthier.core.ids import new_id
from luthier.core.json import JsonObject
from luthier.core.lists import Page, PageQuery
from luthier.core.projects import Caller
from luthier.domain import graders, models
from luthier.domain.eval_rows import check_schema, rows
from luthier.domain.platform import Platform
from luthier.domain.webhooks import event_items
from luthier.store import eval_runs, evals, files


@dataclass(frozen=True)
class NewEval:
    """What is asked for, as documents checked at the door. `item_schema` is None for an eval of what was stored."""

    name: str | None
    config_type: Literal["custom", "logs", "stored_completions"]
    item_schema: JsonObject | None
    with_sample: bool
    config_metadata: dict[str, str] | None
    testing_criteria: list[JsonObject]
    metadata: dict[str, str] | None


async def create(platform: Platform, caller: Caller, wanted: NewEval) -> Eval:
    """A new eval. Errors: `InvalidRequest` for a schema or a criterion that will not do."""
    if wanted.item_schema is not None:
        check_schema(wanted.item_schema)
    for number, document in enumerate(wanted.testing_criteria):
        try:
            await graders.of(document).check()
        except InvalidRequest as error:
            raise InvalidRequest(error.message, code=error.code, param=f"testing_criteria[{number}]") from error
    now = int(platform.database.now())
    made = Eval(
        id=new_id("eval"),
        project_id=caller.project_id,
        created_at=now,
        updated_at=now,
        name=wanted.name or str(wanted.testing_criteria[0]["name"]),
        data_source_config=_config(wanted),
        testing_criteria=[{**c, "id": f"{c['name']}-{uuid.uuid4()}"} for c in wanted.testing_criteria],
        metadata=wanted.metadata,
    )
    evals.create(platform.database, made)
    return made


def _config(wanted: NewEval) -> JsonObject:
    """The config with the schema of what graders see."""
    anything: JsonObject = {"type": "object"}
    properties: JsonObject = {"item": anything if wanted.item_schema is None else wanted.item_schema}
    if wanted.with_sample:
        properties["sample"] = anything
    schema: JsonObject = {"type": "object", "properties": properties, "required": [*properties]}
    if wanted.config_type == "custom":
        return {"type": "custom", "schema": schema}
    return {"type": wanted.config_type, "metadata": {**(wanted.config_metadata or {})}, "schema": schema}


def get(platform: Platform, project_id: str, eval_id: str) -> Eval:
    """The eval. Errors: `NotFound`."""
    found = evals.get(platform.database, project_id, eval_id)
    if found is None:
        raise _missing("eval", eval_id)
    return found


def list_page(
    platform: Platform, project_id: str, query: PageQuery, *, order_by: Literal["created_at", "updated_at"]
) -> Page[Eval]:
    """The project's evals."""
    return evals.list_page(platform.database, project_id, query, order_by=order_by)


def change(
    platform: Platform, project_id: str, eval_id: str, *, name: str | None, metadata: dict[str, str] | None
) -> Eval:
    """Set what is given. Errors: `NotFound`."""
    now = int(platform.database.now())
    changed = evals.change(platform.database, project_id, eval_id, now=now, name=name, metadata=metadata)
    if changed is None:
        raise _missing("eval", eval_id)
    return changed


def delete(platform: Platform, project_id: str, eval_id: str) -> None:
    """Delete an eval and its runs; who works on one stops. Errors: `NotFound`."""
    if not evals.remove(platform.database, project_id, eval_id):
        raise _missing("eval", eval_id)


def create_run(
    platform: Platform,
    caller: Caller,
    eval_id: str,
    *,
    name: str | None,
    data_source: JsonObject,
    metadata: dict[str, str] | None,
) -> EvalRun:
    """A new run, `queued`. Errors: `NotFound` for eval or model; `InvalidRequest` for a source that will not do.

    Rows of the body and what can be known of a file are looked at now; a file's lines when the run begins: then the
    run is `failed` by what is wrong with them.
    """
    tested = get(platform, caller.project_id, eval_id)
    model = str(data_source.get("model") or "")
    if model:
        models.resolve(platform, caller.project_id, model)
    run = EvalRun(
        id=new_id("eval_run"),
        project_id=caller.project_id,
        organization_id=caller.organization_id,
        organization=caller.organization,
        key_id=caller.key_id,
        eval_id=eval_id,
        created_at=int(platform.database.now()),
        name=name or model or tested.name,
        model=model,
        data_source=data_source,
        metadata=metadata,
    )
    _check_source(platform, tested, run)
    eval_runs.create(platform.database, run)
    return run


def _check_source(platform: Platform, tested: Eval, run: EvalRun) -> None:
    source: dict[str, Any] = run.data_source
    origin, asked = source["source"], bool(run.model)
    if asked and not source.get("input_messages"):
        raise _wrong("Missing required parameter: 'data_source.input_messages': what is the model asked?")
    if not asked and source["type"] != "jsonl" and origin["type"].startswith("file"):
        raise _wrong("Missing required parameter: 'data_source.model': rows of a file are asked of a model.", "model")
    if origin["type"] == "file_id" and files.get(platform.database, run.project_id, origin["id"]) is None:
        raise _wrong(f"No such File object: {origin['id']}", "source.id")
    if origin["type"] == "file_content":
        for _ in rows(platform, tested, run):
            continue


def get_run(platform: Platform, project_id: str, eval_id: str, run_id: str) -> EvalRun:
    """The run. Errors: `NotFound`."""
    run = eval_runs.get(platform.database, project_id, eval_id, run_id)
    if run is None:
        raise _missing("eval run", run_id)
    return run


def list_runs(
    platform: Platform, project_id: str, eval_id: str, query: PageQuery, *, status: RunStatus | None
) -> Page[EvalRun]:
    """An eval's runs. Errors: `NotFound`."""
    get(platform, project_id, eval_id)
    return eval_runs.list_page(platform.database, eval_id, query, status)


def cancel_run(platform: Platform, project_id: str, eval_id: str, run_id: str) -> EvalRun:
    """End a run now; one that is canceled already stays so. Errors: `NotFound`; `Conflict` at another end."""
    database = platform.database
    told = event_items(platform, project_id, "eval.run.canceled", {"id": run_id})
    ended = eval_runs.cancel(database, project_id, eval_id, run_id, told, now=database.now())
    run = ended or get_run(platform, project_id, eval_id, run_id)
    if run.status != "canceled":
        raise Conflict(f"Cannot cancel an eval run with status '{run.status}'.")
    return run


def delete_run(platform: Platform, project_id: str, eval_id: str, run_id: str) -> None:
    """Delete a run with its items; who works on it stops. Errors: `NotFound`."""
    if not eval_runs.remove(platform.database, project_id, eval_id, run_id):
        raise _missing("eval run", run_id)


def get_item(platform: Platform, project_id: str, eval_id: str, run_id: str, item_id: str) -> OutputItem:
    """One of a run's items. Errors: `NotFound`."""
    run = get_run(platform, project_id, eval_id, run_id)
    item = eval_runs.get_item(platform.database, run.id, item_id)
    if item is None:
        raise _missing("output item", item_id)
    return item


def list_items(
    platform: Platform, project_id: str, eval_id: str, run_id: str, query: PageQuery, *, status: ItemStatus | None
) -> Page[OutputItem]:
    """A run's items. Errors: `NotFound`."""
    run = get_run(platform, project_id, eval_id, run_id)
    return eval_runs.list_items(platform.database, run.id, query, status)


def _wrong(message: str, place: str = "input_messages") -> InvalidRequest:
    code = "missing_required_parameter" if message.startswith("Missing") else "invalid_value"
    return InvalidRequest(message, code=code, param=f"data_source.{place}")


def _missing(noun: str, name: str) -> NotFound:
    return NotFound(f"No {noun} found with id '{name}'.", code="not_found")
