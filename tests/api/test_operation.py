"""What an operator sees: metrics without names, a log without secrets, a stop that finishes what was begun."""

import json
import re
import signal
import subprocess
import sys
import threading

import httpx2
import pytest

from tests.conftest import KEY, serving
from tests.contract.objects import BASE, HELLO
from tests.patience import PATIENCE_S

SECRET = "the-owl-flies-at-midnight"
# A server whose answers take their time, a word each tenth of a second.
SLOW_SERVER = """
from luthier.cli.main import app
from luthier.engines import pool
from luthier.engines.echo import Echo
pool.FACTORIES["echo"] = lambda _wanted: Echo(pause_s=0.1)
app()
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("data"), background=False) as running:
        yield running


def metrics(server, **headers):
    return server.http.get(server.http.base_url.join("/metrics"), headers=headers)


def value(text, name, **labels):
    for line in text.splitlines():
        shown = dict(re.findall(r'(\w+)="([^"]*)"', line))
        if line.split("{")[0].split(" ")[0] == name and shown.items() >= labels.items():
            return float(line.rsplit(" ", 1)[1])
    return 0.0


def test_metrics_count_and_name_nobody(server):
    before = metrics(server).text
    server.client.chat.completions.create(model=BASE, messages=HELLO)
    file = server.client.files.create(file=b'{"messages": []}', purpose="fine-tune")
    job = server.client.fine_tuning.jobs.create(model=BASE, training_file=file.id)
    server.http.get(f"/files/{file.id}")
    server.http.get("/nowhere")
    after = metrics(server).text

    def grown(name, **labels):
        return value(after, name, **labels) - value(before, name, **labels)

    assert grown("luthier_requests_total", operation="createChatCompletion", status="200") == 1
    assert grown("luthier_requests_total", operation="retrieveFile", status="200") == 1
    assert grown("luthier_requests_total", operation="none", status="404") == 1
    assert grown("luthier_request_seconds_count", operation="createChatCompletion") == 1
    assert grown("luthier_tokens_total", kind="input") == 1
    assert grown("luthier_answer_seconds_count", endpoint="chat/completions") == 1
    assert value(after, "luthier_unfinished_jobs", status="validating_files") == 1
    assert value(after, "luthier_engines") == 1
    for name in (KEY, file.id, job.id, server.platform.project.id, BASE, "nowhere"):
        assert name not in after


def test_metrics_want_an_admins_key(server):
    assert metrics(server, authorization="").status_code == 401
    project = server.platform.project.id
    weak = server.http.post(f"/organization/projects/{project}/api_keys", json={"name": "k"}).json()["value"]
    assert metrics(server, authorization=f"Bearer {weak}").status_code == 403


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A server that was told to stop in the middle of a stream: the stream's lines, the log's, the exit status."""
    data = tmp_path_factory.mktemp("data")
    (data / "luthier.toml").write_text('default_base = "none"\n[bases.none]\nsource = "file:/x"\nsha256 = "0"\n')
    environment = {"PATH": "", "HOME": str(data), "LUTHIER_ENGINE": "echo", "LUTHIER_API_KEY": KEY}
    command = [sys.executable, "-c", SLOW_SERVER, "serve", "--port", "0", "--data", str(data)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment | path(), cwd=data, **pipes) as child:
        try:
            lines = stop_in_mid_stream(child)
        finally:
            child.kill()
        yield lines, child.stderr.read(), child.returncode


def stop_in_mid_stream(child):
    """Ask it, and tell it to stop at its first line; what it said."""
    told = child.stdout.readline()
    assert told, f"the server did not start: {child.stderr.read()}"
    url = told.split()[-1]
    said = threading.Thread(target=child.stdout.read)
    said.start()
    body = {"model": "none", "stream": True, "messages": [{"role": "user", "content": f"{SECRET} b c d e f g h"}]}
    headers = {"authorization": f"Bearer {KEY}"}
    lines = []
    with httpx2.stream("POST", f"{url}/chat/completions", json=body, headers=headers, timeout=PATIENCE_S) as answer:
        for line in answer.iter_lines():
            if not lines:
                child.send_signal(signal.SIGTERM)
            lines.append(line)
    child.wait(PATIENCE_S)
    said.join()
    return lines


def path():
    """Where the tree under test is, for a child process."""
    import os

    return {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}


def test_a_stop_finishes_the_streams_under_way(stopped):
    lines, _, status = stopped
    assert [line for line in lines if line][-1] == "data: [DONE]"
    assert sum('"content":' in line for line in lines) >= 8
    assert status in {0, -signal.SIGTERM}


def test_the_log_is_json_with_ids_and_without_what_was_said(stopped):
    _, log, _ = stopped
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    request = next(line for line in lines if line["event"] == "request")
    assert request["request_id"].startswith("req_")
    assert (request["method"], request["path"], request["status"]) == ("POST", "/v1/chat/completions", 200)
    assert request["project"].startswith("proj_")
    assert request["ms"] > 0
    assert SECRET not in log
    assert KEY not in log
