import time

import openai
import pytest

from luthier.domain import webhooks
from luthier.store import outbox
from tests.conftest import serving
from tests.notify.conftest import receiver  # noqa: F401  # a fixture
from tests.patience import PATIENCE_S

TYPES = ["fine_tuning.job.succeeded", "fine_tuning.job.failed"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("data"), webhook_private_hosts=True) as running:
        yield running


@pytest.fixture
def endpoint(client):
    return client.webhooks.create(name="story", url="http://127.0.0.1:9/hook", event_types=TYPES)


def test_a_secret_is_shown_once(client, endpoint):
    assert endpoint.signing_secret.startswith("whsec_")
    assert endpoint.signing_secret_hint.endswith(endpoint.signing_secret[-4:])
    again = client.webhooks.retrieve(endpoint.id)
    assert "signing_secret" not in again.model_dump()
    assert (again.name, again.url, again.event_types) == ("story", "http://127.0.0.1:9/hook", TYPES)


def test_endpoints_are_listed_newest_first_by_pages(client):
    made = [client.webhooks.create(name=str(n), url="http://127.0.0.1:9", event_types=TYPES).id for n in range(3)]
    pages = client.webhooks.list(limit=2)
    assert [endpoint.id for endpoint in pages.data] == [made[2], made[1]]
    assert made[0] in [endpoint.id for endpoint in pages]


def test_an_update_sets_what_is_given(client, endpoint):
    changed = client.webhooks.update(endpoint.id, name="other", event_types=["batch.completed"])
    assert (changed.name, changed.url, changed.event_types) == ("other", endpoint.url, ["batch.completed"])


def test_a_rotated_secret_is_new(client, endpoint):
    rotated = client.webhooks.rotate_secret(endpoint.id, keep_old_secret_active_for_24_hours=True)
    assert rotated.signing_secret != endpoint.signing_secret


def test_a_deleted_endpoint_is_gone(client, endpoint):
    assert client.webhooks.delete(endpoint.id).deleted
    for call in (client.webhooks.retrieve, client.webhooks.delete, client.webhooks.rotate_secret):
        with pytest.raises(openai.NotFoundError):
            call(endpoint.id)


def test_a_test_is_signed_and_tells_the_status(client, receiver):  # noqa: F811
    receiver.statuses = [204]
    endpoint = client.webhooks.create(name="story", url=receiver.url, event_types=TYPES)
    tested = client.webhooks.test(endpoint.id, event_type="batch.completed")
    assert (tested.status_code, tested.success) == (204, True)
    headers, body = receiver.got[0]
    assert client.webhooks.unwrap(body, headers, secret=endpoint.signing_secret).type == "batch.completed"


def test_a_test_that_nobody_hears_is_an_error_in_words(client, endpoint):
    with pytest.raises(openai.BadRequestError, match="does not answer"):
        client.webhooks.test(endpoint.id, event_type="batch.completed")


def test_event_types_are_those_that_happen_here(client):
    known = client.webhooks.event_types.list().data
    assert "fine_tuning.job.succeeded" in known
    with pytest.raises(openai.BadRequestError) as refused:
        client.webhooks.create(name="x", url="http://127.0.0.1:9", event_types=["video.completed"])
    assert (refused.value.code, refused.value.param) == ("invalid_value", "event_types")


def test_deliveries_are_listed_by_endpoint_and_sent_again(server, receiver):  # noqa: F811
    receiver.statuses = [503]
    http, client = server.http, server.client
    made = [client.webhooks.create(name=n, url=receiver.url, event_types=["batch.cancelled"]).id for n in "ab"]
    cancelled(server)
    until(lambda: len(receiver.got) >= 2)
    everything = http.get("/webhook_deliveries").json()["data"]
    assert {d["webhook_endpoint_id"] for d in everything} == set(made)
    until(lambda: all(d["last_error"] for d in http.get("/webhook_deliveries").json()["data"]))
    (ours,) = http.get(f"/webhook_deliveries?webhook_endpoint_id={made[0]}").json()["data"]
    assert (ours["status"], ours["event_type"]) == ("pending", "batch.cancelled")
    assert ours["attempts"] >= 1
    assert ours["last_error"] == f"{receiver.url} answered 503"
    assert ours["next_attempt_at"] > ours["created_at"]
    assert ours["id"] in [headers["webhook-id"] for headers, _ in receiver.got]
    receiver.statuses = [200]
    assert http.post(f"/webhook_deliveries/{ours['id']}/resend").json()["status"] == "pending"
    listed = f"/webhook_deliveries?webhook_endpoint_id={made[0]}&limit=1"
    until(lambda: http.get(listed).json()["data"][0]["status"] == "delivered")
    client.webhooks.delete(made[0])
    gone = http.post(f"/webhook_deliveries/{ours['id']}/resend")
    assert (gone.status_code, made[0] in gone.text) == (404, True)


def cancelled(server):
    """Tells of a batch that ended."""
    platform = server.platform
    items = webhooks.event_items(platform, platform.project.id, "batch.cancelled", {"id": "batch_x"})
    with platform.database.transaction() as connection:
        outbox.insert_items(connection, items)


def until(condition):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.05)
