"""Usage and costs in OpenAI's shape, asked by the official client."""

import time

import openai
import pytest

from luthier.core.usage import Usage
from luthier.store import usage
from tests.conftest import serving
from tests.contract.objects import BASE, HELLO
from tests.patience import PATIENCE_S

DAY = 86_400
START = 1_700_006_400 - 1_700_006_400 % DAY


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("data"), background=False) as running:
        platform = running.platform
        for model, day, fresh, cached, out, batch in (
            (BASE, 0, 1_000_000, 0, 500_000, False),
            (BASE, 0, 1_000_000, 1_000_000, 0, True),
            ("ft:tiny:acme::a", 2, 0, 0, 1_000_000, False),
        ):
            row = Usage(
                platform.project.id,
                "key_1",
                model,
                "chat/completions",
                START + day * DAY + 7,
                fresh + cached,
                cached,
                out,
                5,
                batch,
            )
            usage.add(platform.database, row)
        yield running


@pytest.fixture
def asked(client):
    client.admin_api_key = client.api_key
    return client.admin.organization.usage


def results(page):
    return [list(bucket.results) for bucket in page.data]


def test_days_are_buckets_and_empty_ones_are_told(asked):
    page = asked.completions(start_time=START + 60, end_time=START + 3 * DAY)
    assert [bucket.start_time for bucket in page.data] == [START, START + DAY, START + 2 * DAY]
    first, second, third = results(page)
    assert [(r.input_tokens, r.input_cached_tokens, r.output_tokens, r.num_model_requests) for r in first] == [
        (3_000_000, 1_000_000, 500_000, 2)
    ]
    assert (second, first[0].model, third[0].output_tokens) == ([], None, 1_000_000)
    assert (page.has_more, page.next_page) == (False, None)


def test_groups_and_filters(asked):
    span = {"start_time": START, "end_time": START + 3 * DAY}
    by_model = asked.completions(**span, group_by=["model", "batch"])
    assert [(r.model, r.batch) for bucket in results(by_model) for r in bucket] == [
        (BASE, False),
        (BASE, True),
        ("ft:tiny:acme::a", False),
    ]
    assert not any(results(asked.completions(**span, project_ids=["proj_other"])))
    assert [len(r) for r in results(asked.completions(**span, models=["ft:tiny:acme::a"], batch=False))] == [0, 0, 1]
    with pytest.raises(openai.BadRequestError, match="user_id cannot be had"):
        asked.completions(**span, group_by=["user_id"])


def test_pages_go_on_where_the_last_ended(asked):
    first = asked.completions(start_time=START, end_time=START + 3 * DAY, limit=2)
    assert (len(first.data), first.has_more) == (2, True)
    second = asked.completions(start_time=START, end_time=START + 3 * DAY, limit=2, page=first.next_page)
    assert [bucket.start_time for bucket in second.data] == [START + 2 * DAY]
    assert not second.has_more
    with pytest.raises(openai.BadRequestError, match="page"):
        asked.completions(start_time=START, page="elsewhere")


def test_costs_are_tokens_by_the_settings_prices(asked):
    page = asked.costs(start_time=START, end_time=START + 3 * DAY, group_by=["line_item"])
    lines = [(r.line_item, r.quantity, round(r.amount.value, 6)) for bucket in results(page) for r in bucket]
    assert lines == [
        (f"{BASE}, cached input", 1_000_000, 0.075),
        (f"{BASE}, input", 2_000_000, 0.30),
        (f"{BASE}, output", 500_000, 0.30),
        ("ft:tiny:acme::a, output", 1_000_000, 1.20),
    ]
    [whole, _, _] = results(asked.costs(start_time=START, end_time=START + 3 * DAY))
    assert [(r.line_item, r.amount.value) for r in whole] == [(None, pytest.approx(0.675))]


def test_a_request_is_metered_within_a_minute(server, asked):
    now = int(time.time())
    server.client.chat.completions.create(model=BASE, messages=HELLO)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        page = asked.completions(start_time=now, bucket_width="1m", group_by=["api_key_id"])
        if found := [r for bucket in results(page) for r in bucket]:
            break
        assert time.monotonic() < deadline
    assert found[0].num_model_requests == 1
    assert found[0].api_key_id.startswith("key_")


def test_only_administrators_may_ask(server):
    made = server.http.post(f"/organization/projects/{server.platform.project.id}/api_keys", json={"name": "k"}).json()
    plain = openai.OpenAI(base_url=server.url, api_key=made["value"], admin_api_key=made["value"], max_retries=0)
    with plain, pytest.raises(openai.PermissionDeniedError, match="admin"):
        plain.admin.organization.usage.costs(start_time=START)


def test_a_time_beyond_the_databases_numbers_is_refused(server):
    answer = server.http.get("/organization/costs", params={"start_time": 10**30})
    assert answer.status_code == 400
    assert any(words in answer.json()["error"]["message"] for words in ("too large", "out of range"))
