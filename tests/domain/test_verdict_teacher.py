"""A teacher elsewhere: a small server that answers as a test says."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import anyio
import pytest

from luthier.core.settings import Settings
from luthier.domain import verdict_teacher
from luthier.domain.verdict_teacher import TeacherFailed, ask_teacher

BODY = {"messages": [{"role": "user", "content": "hi"}], "temperature": 0}
USAGE = {"prompt_tokens": 3, "completion_tokens": 1}
GOOD = 200, {"choices": [{"message": {"content": "yes"}}], "usage": USAGE}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append((self.headers["authorization"], body))
        status, answer = self.server.answers.pop(0)
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def teacher(monkeypatch):
    monkeypatch.setattr(verdict_teacher, "PAUSES_S", (0.01, 0.01))
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server, *answers):
    server.answers = list(answers)
    settings = Settings(teacher_url=f"http://127.0.0.1:{server.server_port}/v1/", teacher_api_key="sk-teacher")
    return anyio.run(ask_teacher, settings, "big", BODY, None)


def refusal(status, words, **more):
    return status, {"error": {"message": words, **more}}


def test_it_answers_under_its_own_name_and_key(teacher):
    whole = {"finish_reason": None, "message": {"content": "yes"}}
    assert ask(teacher, GOOD) == {"choices": [whole], "usage": USAGE}
    assert teacher.asked == [("Bearer sk-teacher", {**BODY, "model": "big"})]


def test_busy_for_a_while_it_is_asked_again(teacher):
    assert ask(teacher, refusal(429, "slow down"), refusal(503, "away"), GOOD)
    with pytest.raises(TeacherFailed, match="slow down"):
        ask(teacher, *[refusal(429, "slow down")] * 3)


def test_where_it_allows_no_temperature_it_is_asked_without(teacher):
    assert ask(teacher, refusal(400, "only the default (1)", param="temperature"), GOOD)
    assert "temperature" not in teacher.asked[-1][1]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (refusal(401, "wrong key"), "wrong key"),
        (refusal(404, "no such model"), "no such model"),
        ((200, {"choices": []}), "no chat completion"),
        ((200, {"choices": [{"message": {"content": "yes"}}]}), "with its usage"),
    ],
)
def test_what_is_wrong_with_it_is_said(teacher, answer, words):
    with pytest.raises(TeacherFailed, match=words):
        ask(teacher, *[answer] * 3)


def test_one_that_never_answers_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(verdict_teacher, "LONGEST_S", 0.05)

    async def here(model, body):
        await anyio.sleep_forever()

    with pytest.raises(TeacherFailed, match="did not answer within"):
        anyio.run(ask_teacher, Settings(), "big", BODY, here)
