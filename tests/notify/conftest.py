"""A platform on a temporary folder, a job to tell of, and receivers that keep what they got."""

import json
import socket
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from aiosmtpd.controller import Controller

from luthier.core.jobs import Job, JobError
from luthier.core.settings import Settings
from luthier.domain import webhooks
from luthier.domain.notify import Notifier
from luthier.domain.platform import open_platform
from luthier.store import outbox
from tests.patience import PATIENCE_S


@dataclass
class Receiver:
    """An HTTP server that answers with the statuses it is given in turn, the last one for ever."""

    url: str
    statuses: list[int]
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def receiver():
    kept = Receiver("", [200])

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            kept.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(kept.statuses.pop(0) if len(kept.statuses) > 1 else kept.statuses[0])
            self.send_header("location", "http://127.0.0.1:9/elsewhere")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    kept.url = f"http://127.0.0.1:{server.server_port}/hook"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield kept
    server.shutdown()
    thread.join()
    server.server_close()


class Mailbox:
    """An aiosmtpd handler: refuses as often as it is told to, then keeps every message."""

    def __init__(self):
        self.refusals = 0
        self.messages = []

    async def handle_DATA(self, _server, _session, envelope):
        if self.refusals:
            self.refusals -= 1
            return "451 come back later"
        self.messages.append(envelope.content)
        return "250 OK"


@dataclass(frozen=True)
class MailServer:
    url: str
    box: Mailbox


@pytest.fixture
def mail_server():
    box = Mailbox()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    yield MailServer(f"smtp://127.0.0.1:{port}", box)
    controller.stop()


@pytest.fixture
def open_here(tmp_path):
    """Opens platforms on one folder, and closes them."""
    opened = []

    def opens(**settings):
        platform = open_platform(
            Settings(**{"data": tmp_path, "cache": tmp_path, "webhook_private_hosts": True, **settings})
        )
        opened.append(platform)
        return platform

    yield opens
    for platform in opened:
        platform.close()


@pytest.fixture
def quick_retries(monkeypatch):
    monkeypatch.setattr("luthier.domain.notify.FIRST_RETRY_S", 0.01)
    monkeypatch.setattr(Notifier, "rest_s", 0.01)


@pytest.fixture
def delivering(quick_retries):
    """Runs a platform's notifier until a condition holds."""
    notifiers = []

    def until(platform, condition):
        notifier = Notifier(platform)
        notifiers.append(notifier)
        notifier.start()
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, "nothing arrived"
            time.sleep(0.01)
        notifier.stop()

    return until


def put(platform, items):
    with platform.database.transaction() as connection:
        outbox.insert_items(connection, items)


def a_job(platform, **changes):
    project = platform.project
    values = {
        "id": "ftjob-story",
        "project_id": project.id,
        "organization_id": project.organization_id,
        "organization": project.organization,
        "created_at": 1_000,
        "finished_at": 1_060,
        "status": "succeeded",
        "model": "smollm2-135m-instruct",
        "method": "supervised",
        "hyperparameters": {"n_epochs": "auto"},
        "seed": 1,
        "training_file": "file-story",
        "trained_tokens": 12_345,
        "fine_tuned_model": "ft:smollm2-135m-instruct:acme::story",
    }
    return Job(**{**values, **changes})


def failed_job(platform):
    error = JobError(
        "invalid_n_examples", "Training file has 7 example(s), but must have at least 10 examples", "training_file"
    )
    return a_job(platform, status="failed", fine_tuned_model=None, error=error)


def an_endpoint(platform, url, event_types=("fine_tuning.job.succeeded",)):
    return webhooks.create(platform, platform.project.id, name="story", url=url, event_types=event_types)


def body(received):
    return json.loads(received[1])
