"""An eval's runs from end to end on the official client: so they work against any server that has evals."""

from __future__ import annotations

import json
import time
from typing import Any, cast

from openai import OpenAI
from openai.types.evals import RunRetrieveResponse

from luthier.cli.display import counting_bars, hint
from luthier.cli.eval_file import EvalPlan
from luthier.core.errors import JobFailed

POLL_S = 0.5


def run_all(client: OpenAI, plan: EvalPlan) -> list[RunRetrieveResponse]:
    """Make the eval and a run for each model, and wait for all. Errors: `JobFailed` for a run that failed."""
    lines = "\n".join(json.dumps(row) for row in plan.rows).encode()
    file = client.files.create(file=(f"{plan.name}.jsonl", lines), purpose="evals")
    config = {"type": "custom", "item_schema": plan.item_schema, "include_sample_schema": True}
    criteria: Any = plan.testing_criteria
    made = client.evals.create(name=plan.name, data_source_config=cast(Any, config), testing_criteria=criteria)
    started = [
        client.evals.runs.create(made.id, name=model or plan.name, data_source=cast(Any, _source(plan, model, file.id)))
        for model in plan.models or [""]
    ]
    with counting_bars() as bar:
        try:
            return [_ended(client, made.id, run.id, bar, len(plan.rows)) for run in started]
        except KeyboardInterrupt:
            hint(f"the runs go on; eval {made.id}")
            raise


def _source(plan: EvalPlan, model: str, file_id: str) -> dict[str, object]:
    source = {"type": "file_id", "id": file_id}
    if not model:
        return {"type": "jsonl", "source": source}
    messages = {"type": "template", "template": plan.messages}
    asked: dict[str, object] = {"type": "completions", "model": model, "source": source, "input_messages": messages}
    return {**asked, "sampling_params": plan.sampling_params} if plan.sampling_params else asked


def _ended(client: OpenAI, eval_id: str, run_id: str, bar: Any, total: int) -> RunRetrieveResponse:  # noqa: ANN401  # rich's
    task = bar.add_task("", total=total)
    while True:
        run = client.evals.runs.retrieve(run_id, eval_id=eval_id)
        bar.update(task, description=run.model or run.name, completed=run.result_counts.total)
        if run.status == "completed":
            return run
        if run.status in ("failed", "canceled"):
            why = run.error.message if run.error else run.status
            raise JobFailed(f"run {run_id} of {run.model or run.name}: {why}")
        time.sleep(POLL_S)
