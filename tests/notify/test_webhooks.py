import socket
import threading
import time
from contextlib import suppress

import openai
import pytest
import sqlalchemy

from luthier.core.errors import InvalidRequest
from luthier.core.lists import PageQuery
from luthier.domain import delivery, webhooks
from luthier.domain.notify import GIVE_UP_AFTER_S, job_finished_items, retry_delay_s
from luthier.store.schema import outbox
from tests.notify.conftest import a_job, an_endpoint, body, put

CLIENT = openai.OpenAI(api_key="unused", base_url="http://unused")


def rows(platform):
    with platform.database.read() as connection:
        return list(connection.execute(sqlalchemy.select(outbox)).mappings())


def test_the_official_client_accepts_ours_and_refuses_a_tampered_one(open_here, receiver, delivering):
    platform = open_here()
    endpoint = an_endpoint(platform, receiver.url)
    put(platform, job_finished_items(platform, a_job(platform)))
    delivering(platform, lambda: receiver.got)
    headers, sent = receiver.got[0]
    event = CLIENT.webhooks.unwrap(sent, headers, secret=endpoint.secret)
    assert (event.type, event.data.id, event.object) == ("fine_tuning.job.succeeded", "ftjob-story", "event")
    assert event.id.startswith("evt_")
    with pytest.raises(openai.InvalidWebhookSignatureError):
        CLIENT.webhooks.unwrap(sent.replace(b"story", b"other"), headers, secret=endpoint.secret)
    assert rows(platform)[0]["delivered_at"] is not None


def test_only_endpoints_that_want_the_event_get_it(open_here, receiver):
    platform = open_here()
    an_endpoint(platform, receiver.url, ["batch.completed"])
    assert job_finished_items(platform, a_job(platform)) == []


def test_a_retry_keeps_the_id_and_the_body(open_here, receiver, delivering):
    platform = open_here()
    receiver.statuses = [500, 302, 200]
    an_endpoint(platform, receiver.url)
    put(platform, job_finished_items(platform, a_job(platform)))
    delivering(platform, lambda: len(receiver.got) == 3)
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    assert len({sent for _, sent in receiver.got}) == 1
    (row,) = rows(platform)
    assert (row["attempts"], row["last_error"]) == (3, None)


@pytest.mark.parametrize("status", [200, 410])
def test_what_arrived_or_was_given_up_is_sent_again_under_its_id(open_here, receiver, delivering, status):
    platform = open_here()
    receiver.statuses = [status, 200]
    an_endpoint(platform, receiver.url)
    (item,) = job_finished_items(platform, a_job(platform))
    put(platform, [item])

    def listed():
        return webhooks.list_deliveries(platform, platform.project.id, PageQuery()).items[0]

    delivering(platform, lambda: listed().status != "pending")
    first = listed()
    assert (first.status, first.attempts) == ("delivered" if status == 200 else "failed", 1)
    assert webhooks.resend(platform, platform.project.id, item.id).status == "pending"
    delivering(platform, lambda: listed().status != "pending")
    assert (listed().status, listed().attempts, listed().last_error) == ("delivered", 2, None)
    (headers, sent), (headers_again, sent_again) = receiver.got
    assert headers["webhook-id"] == headers_again["webhook-id"] == item.id
    assert sent == sent_again


def test_each_endpoint_is_retried_alone(open_here, receiver, delivering):
    platform = open_here()
    an_endpoint(platform, receiver.url)
    an_endpoint(platform, "http://127.0.0.1:9/nobody")
    put(platform, job_finished_items(platform, a_job(platform)))
    delivering(platform, lambda: receiver.got and any(row["last_error"] for row in rows(platform)))
    there, nobody = rows(platform)
    assert (there["delivered_at"] is None, nobody["delivered_at"] is None) == (False, True)
    assert "does not answer" in nobody["last_error"]
    assert there["payload"]["event"] == nobody["payload"]["event"]
    assert there["id"] != nobody["id"]


def test_while_a_secret_rotates_both_sign(open_here, receiver, delivering):
    platform = open_here()
    old = an_endpoint(platform, receiver.url)
    new = webhooks.rotate(platform, platform.project.id, old.id, keep_old_secret=True)
    put(platform, job_finished_items(platform, a_job(platform)))
    delivering(platform, lambda: receiver.got)
    headers, sent = receiver.got[0]
    assert old.secret != new.secret
    for secret in (old.secret, new.secret):
        CLIENT.webhooks.verify_signature(sent, headers, secret=secret)
    later = platform.database.now() + webhooks.OLD_SECRET_LIVES_S + 1
    assert new.secrets_at(later) == [new.secret]


def test_a_gone_or_deleted_endpoint_is_given_up(open_here, receiver, delivering):
    platform = open_here()
    receiver.statuses = [410]
    an_endpoint(platform, receiver.url)
    deleted = an_endpoint(platform, receiver.url)
    put(platform, job_finished_items(platform, a_job(platform)))
    webhooks.delete(platform, platform.project.id, deleted.id)
    delivering(platform, lambda: all(row["given_up_at"] for row in rows(platform)))
    assert [row["last_error"] for row in rows(platform)] == [
        f"{receiver.url} answered 410",
        f"endpoint {deleted.id} was deleted",
    ]


def test_after_72_hours_it_is_given_up(open_here, receiver, delivering):
    platform = open_here()
    receiver.statuses = [503]
    an_endpoint(platform, receiver.url)
    (item,) = job_finished_items(platform, a_job(platform))
    put(platform, [item])
    with platform.database.transaction() as connection:
        connection.execute(sqlalchemy.update(outbox).values(created_at=item.created_at - GIVE_UP_AFTER_S))
    delivering(platform, lambda: rows(platform)[0]["given_up_at"])
    assert len(receiver.got) == 1


def test_delays_grow_to_six_hours():
    delays = [retry_delay_s(attempt) for attempt in range(1, 20)]
    assert 5 <= delays[0] <= 5.5
    assert 20 <= delays[1] <= 22
    assert max(delays) <= 6.6 * 3600
    assert sum(1 for d in delays if d < 3600) < 7


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/hook",
        "https://127.0.0.1/hook",
        "https://[::ffff:10.0.0.1]/hook",
        "https://169.254.169.254/latest/meta-data",
        "https://user:pass@example.com/hook",
        "ftp://example.com/",
        "https://example.com:99999/",
        "https://exa\x07mple.com/",
        "nothing",
    ],
)
def test_urls_that_will_not_do_are_refused_at_once(open_here, url):
    with pytest.raises(InvalidRequest) as refused:
        an_endpoint(open_here(webhook_private_hosts=False), url)
    assert refused.value.param == "url"


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.7", "::1", "fd00::1", "64:ff9b::7f00:1"])
def test_a_name_of_a_private_address_is_refused_when_sent(monkeypatch, address):
    monkeypatch.setattr(
        "socket.getaddrinfo", lambda *_, **__: [(0, 0, 0, "", ("8.8.8.8", 443)), (0, 0, 0, "", (address, 443))]
    )
    with pytest.raises(delivery.DeliveryFailed, match="private network"):
        delivery.post("https://inside.example/", "wh_1", {}, ["whsec_AAAA"], now=0, private_hosts=False)


def test_the_connection_goes_to_the_checked_address_under_the_name(monkeypatch, receiver):
    port = receiver.url.split(":")[2].split("/")[0]
    found = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", int(port)))
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: [found])
    url = f"http://name.example:{port}/hook?a=b#c"
    assert delivery.post(url, "wh_1", {"id": "evt_1"}, ["whsec_AAAA"], now=0, private_hosts=True) == 200
    headers, _ = receiver.got[0]
    assert headers["host"] == f"name.example:{port}"
    assert body(receiver.got[0]) == {"id": "evt_1"}


def test_a_name_in_other_letters_is_sent_in_ascii(monkeypatch, receiver):
    port = receiver.url.split(":")[2].split("/")[0]
    found = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", int(port)))
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: [found])
    url = f"http://münchen.example:{port}/höhe"
    assert delivery.post(url, "wh_1", {}, ["whsec_AAAA"], now=0, private_hosts=True) == 200
    assert receiver.got[0][0]["host"] == f"xn--mnchen-3ya.example:{port}"


def test_a_receiver_that_drips_holds_nobody_up(monkeypatch):
    monkeypatch.setattr(delivery, "TIMEOUT_S", 0.5)

    def drip(listening):
        with listening.accept()[0] as connection, suppress(OSError):
            while True:
                connection.sendall(b"x")
                time.sleep(0.1)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=drip, args=(listening,), daemon=True).start()
        began, url = time.monotonic(), f"http://127.0.0.1:{listening.getsockname()[1]}/"
        with pytest.raises(delivery.DeliveryFailed, match="does not answer"):
            delivery.post(url, "wh_1", {}, ["whsec_AAAA"], now=0, private_hosts=True)
        assert time.monotonic() - began < 5
