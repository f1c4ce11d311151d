"""A real server on a port, on a temporary data folder, for the official client."""

import faulthandler
import os
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import hypothesis
import openai
import pytest
import structlog
import uvicorn
from fastapi import FastAPI

from luthier.api.app import create_app
from luthier.api.heads import LimitedHeads
from luthier.core.machine import TORCH_ENVIRONMENT
from luthier.core.settings import Settings
from luthier.domain.platform import Platform
from tests.contract.recorder import DOCUMENT, Recorder
from tests.databases import blobs_url, database_url
from tools.compatibility import built

# Whoever runs the tests may have settings of Luthier's and keys of OpenAI's, which are not for tests. A proxy stays
# for what slow tests fetch, but not in the way to this machine.
for name in [*os.environ]:
    if name.startswith(("OPENAI_", "LUTHIER_")) and not name.startswith("LUTHIER_TEST_"):
        del os.environ[name]
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
for name, value in TORCH_ENVIRONMENT.items():  # as trainers have it: threads that spin take cores from other tests
    os.environ.setdefault(name, value)
# The same examples on every run, on however busy a machine. What is found by chance is for `make fuzz`.
hypothesis.settings.register_profile(
    "tests", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("tests")
# Records go where pytest keeps them: on the output, a server's lines would stand between those of the command tested.
structlog.configure(
    processors=[structlog.stdlib.filter_by_level, structlog.processors.KeyValueRenderer(key_order=["event"])],
    logger_factory=structlog.stdlib.LoggerFactory(),
    wrapper_class=structlog.stdlib.BoundLogger,
)
RECORDER = Recorder()
KEY = "sk-test-0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Server:
    """A running server and those who talk to it."""

    app: FastAPI
    url: str
    client: openai.OpenAI
    http: httpx2.Client

    @property
    def platform(self) -> Platform:
        return self.app.state.platform


@contextmanager
def serving(data: Path, *, background=True, recorded=True, **settings):
    """A server with these settings; `client` validates every answer strictly, `http` shows it as it is.

    Every answer is held against OpenAI's schema, which takes longer than most answers; a violation fails the test or
    module that the server served.
    """
    violations = len(RECORDER.violations)
    defaults = {"data": data, "cache": data / "cache", "api_key": KEY, "engine": "echo", "organization": "acme"}
    defaults["warm_trainer"] = False
    defaults["database_url"], defaults["blobs_url"] = database_url(data), blobs_url(data)
    app = create_app(Settings(**{**defaults, **settings}), background=background)
    # Named as TCP, for asyncio turns off Nagle's delay on no other: 40 ms less a request.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    served = RECORDER.around(app) if recorded else app
    server = uvicorn.Server(uvicorn.Config(served, log_level="warning", http=LimitedHeads))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start; its log is above"
        time.sleep(0.01)
    client = openai.OpenAI(base_url=url, api_key=KEY, max_retries=0, _strict_response_validation=True)
    http = httpx2.Client(base_url=url, headers={"authorization": f"Bearer {KEY}"}, timeout=60)
    try:
        with client, http:
            yield Server(app, url, client, http)
    finally:
        server.should_exit = True
        thread.join(timeout=90)
        listener.close()
        assert not thread.is_alive(), "the server did not stop"
    assert not RECORDER.violations[violations:], "answers that break OpenAI's schema"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One server a test module."""
    with serving(tmp_path_factory.mktemp("data")) as running:
        yield running


@pytest.fixture
def client(server):
    return server.client


@pytest.fixture
def http(server):
    return server.http


def pytest_runtest_setup(item):
    """What has a make target of its own may take longer than `faulthandler_timeout`."""
    if any(item.get_closest_marker(name) for name in ("slow", "clients", "vllm")):
        faulthandler.cancel_dump_traceback_later()


def unexercised():
    """Operations that OpenAI documents and the app has, but no answer of this run was of."""
    return sorted({(method, path) for path, method, _ in built(DOCUMENT)} - RECORDER.exercised)


def pytest_sessionfinish(session, exitstatus):
    """The whole suite has to reach every operation."""
    if not session.config.invocation_params.args and exitstatus == 0 and unexercised():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    """How much of the contract this run held against OpenAI's document."""
    if RECORDER.exercised:
        missing = unexercised()
        terminalreporter.write_line(
            f"contract: {len(RECORDER.violations)} schema violations in {RECORDER.bodies} bodies and "
            f"{RECORDER.chunks} stream chunks; {len(RECORDER.exercised)} operations exercised, "
            f"{len(RECORDER.exercised) + len(missing)} built"
        )
        if not config.invocation_params.args and missing:
            terminalreporter.write_line(f"contract: never exercised: {missing}", red=True)
