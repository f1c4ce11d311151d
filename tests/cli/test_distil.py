import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from luthier.cli.distil_asking import parse_budget
from luthier.cli.distil_prompts import read_prompts
from luthier.core.prices import Price
from tests.cli.test_commands import failing, luthier
from tests.contract.objects import BASE
from tests.domain.workers import until

EXACT = {
    "type": "string_check",
    "name": "is wanted",
    "operation": "eq",
    "input": "{{sample.output_text}}",
    "reference": "{{item.reference}}",
}


class Teacher(ThreadingHTTPServer):
    """A server that remembers what it was asked. `{question}!` is its answer, in 10 tokens, after 100 of prompt."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked, self.reason = [], "stop"
        self.unanswered, self.goes_on = set(), threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        question = body["messages"][-1]["content"]
        self.server.asked.append((self.headers["authorization"], body))
        if question in self.server.unanswered:
            self.server.goes_on.wait()
        choice = {
            "index": 0,
            "finish_reason": self.server.reason,
            "message": {"role": "assistant", "content": f"{question}!"},
        }
        usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
        content = json.dumps({"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def teacher(monkeypatch):
    with Teacher() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("LUTHIER_TEACHER", "big")
        monkeypatch.setenv("LUTHIER_TEACHER_URL", server.url)
        monkeypatch.setenv("LUTHIER_TEACHER_API_KEY", "sk-teacher")
        yield server
        server.shutdown()
        thread.join()


def prompts(tmp_path, *questions, **more):
    path = tmp_path / "prompts.jsonl"
    lines = [{"messages": [{"role": "user", "content": question}], **more} for question in questions]
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return path


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def answers_in(path):
    return [line["messages"][-1]["content"] for line in lines_of(path)]


def test_a_teacher_elsewhere_is_asked_once_and_every_answer_has_its_origin(teacher, tmp_path):
    file = prompts(tmp_path, "one", "two", "one", tools=[{"type": "function", "function": {"name": "f"}}])
    out = tmp_path / "out.jsonl"
    printed = luthier("distil", file, "--output", out).stdout
    assert "2 answers took 200 tokens of prompts and 20 of replies" in printed
    assert "1 dropped: a duplicate" in printed
    assert answers_in(out) == ["one!", "two!"]
    assert lines_of(out)[0]["tools"]
    first, _, third = lines_of(tmp_path / "out.provenance.jsonl")
    assert (first["teacher"], first["base_url"], first["line"]) == ("big", f"{teacher.url}/", 1)
    assert first["usage"] == {"prompt_tokens": 100, "completion_tokens": 10, "cached_tokens": 0}
    assert abs(first["asked_at"] - time.time()) < 60
    assert (third["line"], third["dropped"], third["prompt_sha256"]) == (None, "a duplicate", first["prompt_sha256"])
    luthier("distil", file, "--output", out)
    [(key, body), _] = teacher.asked
    assert (key, body["model"], body["max_completion_tokens"]) == ("Bearer sk-teacher", "big", 1024)


def test_near_duplicates_and_cut_answers_are_dropped(teacher, tmp_path):
    text = "the quick brown fox jumps over the lazy dog and then goes home to have its dinner with all the others"
    out = tmp_path / "out.jsonl"
    assert (
        "1 dropped: a near duplicate"
        in luthier("distil", prompts(tmp_path, text, text + " now"), "--output", out).stdout
    )
    teacher.reason = "length"
    other = tmp_path / "other.jsonl"
    assert (
        "1 dropped: cut at 5 tokens"
        in luthier("distil", prompts(tmp_path, "x"), "--output", other, "--max-tokens", 5).stdout
    )
    assert other.read_text() == ""


@pytest.mark.parametrize(("budget", "asked"), [("1000", 7), ("0.0025usd", 7)])
def test_a_budget_holds_and_a_larger_one_goes_on(teacher, tmp_path, monkeypatch, budget, asked):
    """A question has at most 120 + 50 tokens, an answer 110: the seventh may be asked with 660 + 170 of 1,000."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "luthier.toml").write_text("[prices.big]\ntraining=0\ninput=2\ncached_input=2\noutput=5\n")
    file, out = prompts(tmp_path, *(f"question {n:03}" for n in range(20))), tmp_path / "out.jsonl"
    command = ("distil", file, "--output", out, "--max-tokens", 50, "--budget")
    printed = luthier(*command, budget).stdout
    spent = len(teacher.asked) * (110 if budget == "1000" else 0.00025)
    assert spent <= float(budget.removesuffix("usd"))
    assert asked <= len(teacher.asked) < 10
    assert f"{20 - len(teacher.asked)} prompts were not asked" in printed
    luthier(*command, "100,000")
    assert len(teacher.asked) == len(lines_of(out)) == 20


def test_money_needs_a_price(teacher, tmp_path):
    command = ("distil", prompts(tmp_path, "x"), "--output", tmp_path / "out.jsonl", "--budget")
    assert 'add [prices."big"]' in failing(*command, "2usd")
    assert "give tokens" in failing(*command, ".50")  # what a shell makes of $2.50
    assert teacher.asked == []
    assert parse_budget("2.5usd", "big", {"big": Price(0, 1, 1, 1)}).most == 2.5


def test_kill_9_loses_only_what_was_under_way(teacher, tmp_path):
    questions = [f"question {n}" for n in range(24)]
    teacher.unanswered.update(questions[10:])
    file, out = prompts(tmp_path, *questions), tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "luthier.cli.main", "distil", str(file), "--output", str(out)]
    with subprocess.Popen(command, env=os.environ) as process:
        try:
            until(lambda: len(teacher.asked) == 14 or process.poll() is not None)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL
    kept = tmp_path / "out.answers.jsonl"
    assert len(kept.read_bytes().split(b"\n")[:-1]) == 10
    with kept.open("ab") as torn:
        torn.write(b'{"key": "half a li')
    teacher.goes_on.set()
    luthier("distil", file, "--output", out)
    assert sorted(answers_in(out)) == sorted(f"{question}!" for question in questions)
    assert len(teacher.asked) == 28
    assert len(lines_of(kept)) == 24


def test_a_teacher_that_goes_away_leaves_its_answers(teacher, tmp_path, monkeypatch):
    out = tmp_path / "out.jsonl"
    luthier("distil", prompts(tmp_path, "one"), "--output", out)
    monkeypatch.setattr("luthier.cli.distil.RETRIES", 0)
    monkeypatch.setattr(Handler, "do_POST", lambda self: self.send_error(500))
    done = luthier("distil", prompts(tmp_path, "one", "two"), "--output", out, succeeds=False)
    assert "1 answers are kept in" in done.stderr
    assert answers_in(out) == ["one!"]


def test_a_grader_of_the_server_decides_by_a_threshold(environment, tmp_path):
    """The echo engine says what it was asked."""
    file = tmp_path / "chats.jsonl"
    chats = [[("user", "Rome"), ("assistant", "Rome")], [("user", "Oslo"), ("assistant", "Bern")]]
    lines = [{"messages": [{"role": role, "content": text} for role, text in chat]} for chat in chats]
    file.write_text("\n".join(map(json.dumps, lines)))
    grader, out = tmp_path / "grader.json", tmp_path / "out.jsonl"
    grader.write_text(json.dumps(EXACT))
    command = ("distil", file, "--teacher", BASE, "--output", out, "--grader", grader)
    assert "1 dropped: rewards below 1" in luthier(*command, "--threshold", 1).stdout
    assert answers_in(out) == ["Rome"]
    assert [line["reward"] for line in lines_of(tmp_path / "out.provenance.jsonl")] == [1, 0]
    luthier(*command, "--threshold", 0)
    assert answers_in(out) == ["Rome", "Oslo"]
    assert len(lines_of(tmp_path / "out.answers.jsonl")) == 4  # two answers, two rewards
    assert "go together" in failing(*command)
    file.write_text(prompts(tmp_path, "Rome").read_text() + json.dumps(lines[0]))  # one question, two items
    assert "1 dropped: not graded: invalid_variable_error" in luthier(*command, "--threshold", 1).stdout
    grader.write_text(json.dumps({**EXACT, "operation": "about"}))
    assert f"{grader}, grader.operation: Invalid value: 'about'" in failing(*command, "--threshold", 1)


def test_stored_chats_are_asked_anew(environment, client, tmp_path):
    for app in ("mine", "other"):
        turns = [{"role": "system", "content": "Say."}, {"role": "user", "content": f"hello from {app}"}]
        client.chat.completions.create(model=BASE, messages=turns, store=True, metadata={"app": app})
    out = tmp_path / "out.jsonl"
    luthier("distil", "--stored", "--metadata", "app=mine", "--teacher", BASE, "--output", out)
    [line] = lines_of(out)
    assert [(m["role"], m["content"]) for m in line["messages"]] == [
        ("system", "Say."),
        ("user", "hello from mine"),
        ("assistant", "hello from mine"),
    ]
    words = failing("distil", "--stored", "--metadata", "app=none", "--teacher", BASE, "--output", out)
    assert "no such stored chats" in words


def test_what_comes_out_is_tuned_on(environment, runs_jobs, tmp_path):
    runs_jobs()
    file = prompts(tmp_path, *(f"question {n}" for n in range(10)))
    printed = luthier(
        "distil", file, "--teacher", BASE, "--output", tmp_path / "out.jsonl", "--tune", "--suffix", "pupil"
    ).stdout
    assert "Your model: ft:smollm2-135m-instruct:acme:pupil:" in printed


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("no json", 'line 1: no chat; each line needs {"messages": [...]}'),
        ('{"messages": ["hello"]}', "line 1: no chat"),
        ('{"messages": [{"role": "assistant", "content": "hi"}]}', "line 1: nothing to answer"),
        ("\n", "no prompts in it"),
    ],
)
def test_what_is_wrong_with_prompts_is_one_line(environment, tmp_path, text, words):
    (tmp_path / "prompts.jsonl").write_text(text)
    out = ("--output", tmp_path / "out.jsonl", "--teacher", BASE)
    assert words in failing("distil", tmp_path / "prompts.jsonl", *out)


def test_no_other_file_is_overwritten(environment, tmp_path):
    file = prompts(tmp_path, "x")
    assert "is not of `luthier distil`" in failing("distil", file, "--output", file, "--teacher", BASE)
    assert "no teacher" in failing("distil", file, "--output", tmp_path / "out.jsonl")
    assert "give a file of PROMPTS, or --stored" in failing("distil", "--output", "x.jsonl", "--teacher", BASE)


def test_prompts_may_begin_with_a_byte_order_mark_and_blank_lines(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text('\ufeff\n\n{"messages": [{"role": "user", "content": "q"}]}\n', encoding="utf-8")
    [prompt] = read_prompts(path)
    assert prompt.question["messages"] == [{"role": "user", "content": "q"}]
