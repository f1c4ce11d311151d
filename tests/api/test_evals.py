import json
import time
from unittest.mock import Mock

import openai
import pytest

from luthier.core.errors import InvalidRequest
from luthier.domain import eval_rows
from tests.api.test_files import upload
from tests.conftest import KEY, serving
from tests.contract.objects import BASE, HELLO
from tests.patience import PATIENCE_S

EXACT = {
    "type": "string_check",
    "name": "exact",
    "input": "{{sample.output_text}}",
    "reference": "{{item.answer}}",
    "operation": "eq",
}
NEAR = {
    "type": "text_similarity",
    "name": "near",
    "input": "{{sample.output_text}}",
    "reference": "{{item.answer}}",
    "evaluation_metric": "fuzzy_match",
    "pass_threshold": 0.5,
}
SCHEMA = {"type": "object", "properties": {"question": {"type": "string"}}, "required": ["question"]}
CUSTOM = {"type": "custom", "item_schema": SCHEMA, "include_sample_schema": True}
ROWS = [{"item": {"question": "Paris", "answer": "Paris"}}, {"item": {"question": "Rome", "answer": "Oslo"}}]
TEMPLATE = {"type": "template", "template": [{"role": "user", "content": "{{item.question}}"}]}
ASKED = {
    "type": "completions",
    "source": {"type": "file_content", "content": ROWS},
    "input_messages": TEMPLATE,
    "model": BASE,
}


@pytest.fixture(scope="module")
def evals(server):
    """The official client's evals. Not the strict one: OpenAI's `error` is null where its type is an object."""
    with openai.OpenAI(base_url=server.url, api_key=KEY, max_retries=0) as client:
        yield client.evals


def make(evals, *criteria, config=CUSTOM, **options):
    return evals.create(data_source_config=config, testing_criteria=list(criteria or [EXACT]), **options)


def ended(evals, run):
    deadline = time.monotonic() + PATIENCE_S
    while run.status in ("queued", "in_progress"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
        run = evals.runs.retrieve(run.id, eval_id=run.eval_id)
    return run


def run_of(evals, source, *criteria, config=CUSTOM):
    made = make(evals, *criteria, config=config)
    run = ended(evals, evals.runs.create(made.id, data_source=source))
    items = list(evals.runs.output_items.list(run.id, eval_id=made.id))
    items.sort(key=lambda item: item.datasource_item_id)
    return made, run, items


def counts(run):
    return {name: count for name, count in run.result_counts.to_dict().items() if count}


def test_an_eval_is_made_changed_listed_and_deleted(evals):
    made = make(evals, EXACT, NEAR, metadata={"a": "b"})
    assert made.name == "exact"
    assert made.data_source_config.schema_["required"] == ["item", "sample"]
    assert made.data_source_config.schema_["properties"]["item"] == SCHEMA
    assert [c.to_dict()["id"].startswith(f"{c.name}-") for c in made.testing_criteria] == [True, True]
    changed = evals.update(made.id, name="capitals", metadata={"c": "d"})
    assert (changed.name, changed.metadata) == ("capitals", {"c": "d"})
    assert evals.retrieve(made.id).to_dict() == changed.to_dict()
    other = make(evals)
    assert next(e.id for e in evals.list(limit=1, after=made.id)) == other.id
    assert [e.id for e in evals.list(order="desc")][:2] == [other.id, made.id]
    evals.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        evals.retrieve(made.id)


def test_evals_are_listed_by_their_last_change(evals):
    first, second = make(evals), make(evals)
    time.sleep(1.1)
    evals.update(first.id, name="later")
    listed = [e.id for e in evals.list(order_by="updated_at", order="desc", limit=1)]
    assert listed[:2] == [first.id, second.id]


def test_a_model_is_asked_and_graded(evals, server):
    made, run, items = run_of(evals, ASKED, EXACT, NEAR)
    assert (run.status, run.model, run.name, run.error) == ("completed", BASE, BASE, None)
    assert counts(run) == {"total": 2, "passed": 1, "failed": 1}
    exact, near = (criterion.to_dict()["id"] for criterion in made.testing_criteria)
    results = {r.testing_criteria: (r.passed, r.failed) for r in run.per_testing_criteria_results}
    assert results == {exact: (1, 1), near: (1, 1)}
    [used] = run.per_model_usage
    assert (used.run_model_name, used.invocation_count, used.total_tokens) == (BASE, 2, 4)
    assert run.report_url == f"{server.url}/evals/{made.id}/runs/{run.id}"
    paris, rome = items
    assert (paris.status, rome.status) == ("pass", "fail")
    assert paris.datasource_item == ROWS[0]["item"]
    assert [(r.name, r.score, r.passed) for r in paris.results] == [(exact, 1.0, True), (near, 1.0, True)]
    assert [message.to_dict() for message in paris.sample.input] == [{"role": "user", "content": "Paris"}]
    assert paris.sample.output[0].content == "Paris"
    assert (paris.sample.seed, paris.sample.max_completion_tokens) == (42, 2048)
    assert evals.runs.output_items.retrieve(paris.id, eval_id=made.id, run_id=run.id).id == paris.id
    failed = evals.runs.output_items.list(run.id, eval_id=made.id, status="fail")
    assert [item.id for item in failed] == [rome.id]
    assert [r.id for r in evals.runs.list(made.id, status="completed")] == [run.id]
    assert list(evals.runs.list(made.id, status="queued")) == []


def test_rows_of_a_file_with_their_answers_are_graded_without_a_model(evals):
    lines = [{**ROWS[0], "sample": {"output_text": "Paris"}}, {**ROWS[1], "sample": {"output_text": "Rome"}}]
    file = upload(evals._client, "\n".join(map(json.dumps, lines)).encode(), purpose="evals")
    _, run, items = run_of(evals, {"type": "jsonl", "source": {"type": "file_id", "id": file.id}})
    assert (run.model, counts(run), run.per_model_usage) == ("", {"total": 2, "passed": 1, "failed": 1}, [])
    assert items[0].sample.output[0].content == "Paris"


def test_rows_of_a_file_are_asked(evals):
    file = upload(evals._client, "\n\n".join(map(json.dumps, ROWS)).encode(), purpose="evals")
    params = {"temperature": 0, "max_completions_tokens": 1, "seed": 7}
    source = {**ASKED, "source": {"type": "file_id", "id": file.id}, "sampling_params": params}
    _, run, items = run_of(evals, source)
    assert counts(run) == {"total": 2, "passed": 1, "failed": 1}
    assert (items[0].sample.seed, items[0].sample.temperature, items[0].sample.max_completion_tokens) == (7, 0, 1)


def test_a_model_is_asked_as_a_response(evals):
    source = {**ASKED, "type": "responses", "sampling_params": {"temperature": 0, "text": {"format": {"type": "text"}}}}
    _, run, items = run_of(evals, source)
    assert counts(run) == {"total": 2, "passed": 1, "failed": 1}
    assert items[0].sample.finish_reason == "stop"


def test_messages_of_a_row_are_asked(evals):
    rows = [{"item": {"question": "", "talk": HELLO, "answer": "hi"}}]
    reference = {"type": "item_reference", "item_reference": "item.talk"}
    source = {**ASKED, "source": {"type": "file_content", "content": rows}, "input_messages": reference}
    assert counts(run_of(evals, source)[1]) == {"total": 1, "passed": 1}


def test_a_trajectory_with_calls_is_asked_and_shown(evals):
    call = {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "c", "output": "a tree"}
    rows = [{"item": {"question": "", "talk": [*HELLO, call, result, *HELLO], "answer": "hi"}}]
    reference = {"type": "item_reference", "item_reference": "item.talk"}
    source = {**ASKED, "type": "responses", "source": {"type": "file_content", "content": rows}}
    _, run, [item] = run_of(evals, {**source, "input_messages": reference})
    assert (counts(run), item.sample.seed) == ({"total": 1, "passed": 1}, 0)
    assert [(m.role, m.content) for m in item.sample.input][1:3] == [
        ("function_call", "{}"),
        ("function_call_output", "a tree"),
    ]
    _, run, _ = run_of(evals, {**source, "type": "completions", "input_messages": reference})
    assert counts(run) == {"total": 1, "errored": 1}


def test_stored_chats_are_graded_as_they_are_or_asked_again(evals, server):
    for text, language in (("one", "en"), ("two", "en"), ("drei", "de")):
        server.client.chat.completions.create(
            model=BASE,
            messages=[{"role": "user", "content": text}],
            store=True,
            metadata={"suite": "stored", "language": language},
        )
    says = {**EXACT, "reference": "one"}
    config = {"type": "stored_completions", "metadata": {"suite": "stored"}}
    stored = {"type": "completions", "source": {"type": "stored_completions", "metadata": {"language": "en"}}}
    _, run, items = run_of(evals, stored, says, config=config)
    assert (counts(run), run.model) == ({"total": 2, "passed": 1, "failed": 1}, "")
    assert [item.datasource_item["input"][0]["content"] for item in items] == ["one", "two"]
    again = {**stored, "model": BASE, "input_messages": {"type": "item_reference", "item_reference": "item.input"}}
    again["source"] = {"type": "stored_completions", "limit": 1}
    _, run, items = run_of(evals, again, says, config=config)
    assert (counts(run), run.model, len(run.per_model_usage)) == ({"total": 1, "passed": 1}, BASE, 1)


def test_kept_responses_are_graded(evals, server):
    for text, words in (("one", "Be brief."), ("two", "Be brief."), ("three", "Sing.")):
        metadata = {"suite": "kept"}
        server.client.responses.create(model=BASE, input=text, instructions=words, metadata=metadata)
    source = {"type": "responses", "source": {"type": "responses", "instructions_search": "brief", "temperature": 1.0}}
    config = {"type": "logs", "metadata": {"suite": "kept"}}
    _, run, _ = run_of(evals, source, {**EXACT, "reference": "one"}, config=config)
    assert counts(run) == {"total": 2, "passed": 1, "failed": 1}


def test_what_goes_wrong_with_a_row_is_in_its_item(evals):
    rows = [{"item": {"question": "x", "extra": "y"}}, {"item": {"question": "z"}}]
    source = {**ASKED, "source": {"type": "file_content", "content": rows}}
    source["input_messages"] = {"type": "template", "template": [{"role": "user", "content": "{{item.extra}}"}]}
    judge = {"type": "score_model", "name": "judge", "model": "nobody", "input": [{"role": "user", "content": "?"}]}
    _, run, items = run_of(evals, source, {**EXACT, "reference": "y"}, judge)
    assert (run.status, counts(run)) == ("completed", {"total": 2, "errored": 2})
    said, unasked = items
    assert [(r.passed, r.to_dict().get("errors", {}).keys()) for r in said.results] == [
        (True, set()),
        (False, {"model_grader_server_error", "model_grader_server_error_details"}),
    ]
    assert (unasked.status, unasked.results, unasked.sample.error.code) == ("error", [], "invalid_value")
    assert "item.extra" in unasked.sample.error.message


@pytest.mark.parametrize(
    ("line", "words"), [('{"item": 1}', "Line 2: each line"), ('{"item": {}}', "'question' is a re")]
)
def test_a_bad_line_fails_the_run_before_anything_is_asked(evals, line, words):
    file = upload(evals._client, f"{json.dumps(ROWS[0])}\n{line}".encode(), purpose="evals")
    _, run, items = run_of(evals, {**ASKED, "source": {"type": "file_id", "id": file.id}})
    assert (run.status, items) == ("failed", [])
    assert run.error.code == "invalid_data"
    assert words in run.error.message


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"model": None}, "data_source.model"),
        ({"input_messages": None}, "data_source.input_messages"),
        ({"source": {"type": "file_id", "id": "file-none"}}, "data_source.source.id"),
        ({"source": {"type": "file_content", "content": [{"item": {}}]}}, None),
        ({"sampling_params": {"reasoning_effort": "high"}}, "data_source.sampling_params.reasoning_effort"),
        ({"more": 1}, "data_source.more"),
    ],
)
def test_a_source_that_will_not_do_is_refused_by_name(evals, changes, param):
    made = make(evals)
    with pytest.raises(openai.BadRequestError) as caught:
        evals.runs.create(made.id, data_source={**ASKED, **changes})
    assert caught.value.param == param
    with pytest.raises(openai.NotFoundError):
        evals.runs.create(made.id, data_source={**ASKED, "model": "nobody"})


def test_an_eval_that_can_never_grade_is_refused(evals):
    with pytest.raises(openai.BadRequestError, match="no path") as caught:
        make(evals, EXACT, {**EXACT, "input": "{{os}}"})
    assert caught.value.param == "testing_criteria[1]"
    with pytest.raises(openai.BadRequestError) as caught:
        make(evals, config={"type": "custom", "item_schema": {"type": "thing"}})
    assert caught.value.code == "invalid_json_schema"


@pytest.mark.parametrize("ending", ["", "/cancel"])
def test_a_run_is_canceled_on_both_paths(tmp_path, ending):
    with serving(tmp_path, background=False) as idle:
        made = make(idle.client.evals)
        run = idle.http.post(f"/evals/{made.id}/runs", json={"data_source": ASKED}).json()
        canceled = idle.http.post(f"/evals/{made.id}/runs/{run['id']}{ending}")
        assert (canceled.status_code, canceled.json()["status"]) == (200, "canceled")


def test_a_run_that_ended_is_deleted_not_canceled(evals, http):
    made = make(evals)
    run = ended(evals, evals.runs.create(made.id, data_source=ASKED))
    for path in (f"/evals/{made.id}/runs/{run.id}", f"/evals/{made.id}/runs/{run.id}/cancel"):
        assert http.post(path).status_code == 409
    evals.runs.delete(run.id, eval_id=made.id)
    with pytest.raises(openai.NotFoundError):
        evals.runs.retrieve(run.id, eval_id=made.id)
    with pytest.raises(openai.NotFoundError):
        evals.runs.output_items.list(run.id, eval_id=made.id)


def test_a_panic_of_a_library_in_rust_is_a_schema_without_an_end(monkeypatch):
    """As rpds' map panics where the stack is too deep to compare two keys; the class cannot be imported."""

    class PanicException(BaseException):
        pass

    monkeypatch.setattr(eval_rows._Validator, "iter_errors", Mock(side_effect=PanicException("__eq__ failed!")))
    with pytest.raises(InvalidRequest, match="refers to itself without an end"):
        eval_rows._check(eval_rows.Row(1, {}, None), {"type": "object"})
