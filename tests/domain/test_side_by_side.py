"""Two servers, each with its workers, on one database and one blob store."""

import json
import time
from collections import Counter
from contextlib import ExitStack

import pytest

from tests.conftest import serving
from tests.contract.objects import BASE
from tests.databases import blobs_url, database_url
from tests.notify.conftest import receiver  # noqa: F401  # a fixture

BATCHES, LINES = 6, 20


@pytest.fixture
def servers(tmp_path):
    shared = {"database_url": database_url(tmp_path), "blobs_url": blobs_url(tmp_path), "webhook_private_hosts": True}
    with ExitStack() as stack:
        yield [stack.enter_context(serving(tmp_path, **shared)) for _ in range(2)]


def requests():
    for number in range(LINES):
        body = {"model": BASE, "messages": [{"role": "user", "content": str(number)}]}
        yield {"custom_id": str(number), "method": "POST", "url": "/v1/chat/completions", "body": body}


def test_they_share_the_work_and_do_none_twice(servers, receiver):  # noqa: F811
    servers[0].client.webhooks.create(name="x", url=receiver.url, event_types=["batch.completed"])
    lines = "\n".join(map(json.dumps, requests())).encode()
    file = servers[1].client.files.create(file=("a.jsonl", lines), purpose="batch")
    made = [
        servers[n % 2].client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        for n in range(BATCHES)
    ]
    deadline = time.monotonic() + 60
    while any(servers[1].client.batches.retrieve(batch.id).status != "completed" for batch in made):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    for batch in made:
        done = servers[0].client.batches.retrieve(batch.id)
        assert (done.request_counts.completed, done.request_counts.failed) == (LINES, 0)
        output = servers[0].client.files.content(done.output_file_id).text.splitlines()
        assert Counter(json.loads(line)["custom_id"] for line in output) == Counter(map(str, range(LINES)))
    while len(receiver.got) < BATCHES:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(1)
    told = Counter(json.loads(body)["data"]["id"] for _, body in receiver.got)
    assert told == Counter(batch.id for batch in made)
