import json
from types import SimpleNamespace

import httpx2
import openai
import pytest

from luthier.cli.compare import MISSPELLED, answer, read_examples, read_prompts
from luthier.core.errors import InvalidRequest
from luthier.core.verdict.contenders import Contender, Reply, Row, as_many_as_fit, usual_system
from luthier.core.verdict.measures import EXACT
from luthier.core.verdict.trial import hold_trial, limit_for


def chat(*messages):
    return json.dumps({"messages": [{"role": role, "content": text} for role, text in messages]})


def rows(count):
    return [
        Row(({"role": "system", "content": "S"}, {"role": "user", "content": f"q{n}"}), f"a{n}") for n in range(count)
    ]


QUESTION = Row(({"role": "system", "content": "S"}, {"role": "user", "content": "?"}))


def said(messages):
    return [(m["role"], m["content"]) for m in messages]


def test_examples_are_chats_that_end_with_a_reply_in_words():
    lines = [
        chat(("system", "S"), ("user", "q"), ("assistant", "a")),
        "",
        chat(("user", "q")),
        json.dumps({"messages": [{"role": "assistant", "content": None, "tool_calls": [{}]}]}),
    ]
    [found] = read_examples("\n".join(lines))
    assert (said(found.messages), found.reference) == ([("system", "S"), ("user", "q")], "a")
    assert usual_system([found]) == "S"


def test_examples_go_before_the_question_as_a_chat_under_one_system_message():
    contender = Contender("few-shot", "m", tuple(rows(2)))
    expected = [
        ("system", "S"),
        ("user", "q0"),
        ("assistant", "a0"),
        ("user", "q1"),
        ("assistant", "a1"),
        ("user", "?"),
    ]
    assert said(contender.messages(QUESTION)) == expected


def test_prompts_come_one_a_line_or_as_chats_with_the_reply_that_is_wanted(tmp_path):
    plain = tmp_path / "prompts.txt"
    plain.write_text("one?\n\ntwo?\n")
    assert [said(row.messages) for row in read_prompts(plain, "S")] == [
        [("system", "S"), ("user", "one?")],
        [("system", "S"), ("user", "two?")],
    ]
    chats = tmp_path / "prompts.jsonl"
    chats.write_text(chat(("user", "q"), ("assistant", "a")) + "\n" + chat(("user", "q")) + "\n")
    assert [(said(row.messages), row.reference) for row in read_prompts(chats, None)] == [
        ([("user", "q")], "a"),
        ([("user", "q")], None),
    ]


@pytest.mark.parametrize(("name", "text", "words"), [("a.txt", "\n", "no prompts"), ("a.jsonl", "{}\n", "line 1")])
def test_bad_prompt_files_are_named(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(InvalidRequest, match=words):
        read_prompts(tmp_path / name, None)
    with pytest.raises(InvalidRequest, match="no such file"):
        read_prompts(tmp_path / "nowhere.txt", None)


class SmallContext:
    """A server that refuses more than so many messages, as OpenAI words it."""

    def __init__(self, most):
        self.most = most
        self.chat = SimpleNamespace(completions=self)

    def create(self, *, messages, **_):
        if len(messages) > self.most:
            response = httpx2.Response(400, request=httpx2.Request("POST", "http://x"))
            body = {"message": "too long", "code": "context_length_exceeded"}
            raise openai.BadRequestError("too long", response=response, body=body)
        choice = SimpleNamespace(message=SimpleNamespace(content="a"), finish_reason="length")
        return SimpleNamespace(choices=[choice], usage=None)


@pytest.mark.parametrize(("most", "fit"), [(1000, 50), (70, 24), (2, 0)])
def test_as_many_examples_as_the_server_takes_less_room_for_the_answer(most, fit):
    server = SmallContext(most)

    def ask(contender, row, *, limit_tokens):
        return answer(server, contender, row, limit_tokens)

    contender = as_many_as_fit(ask, "m", rows(50), [QUESTION])
    assert (contender.role, len(contender.examples)) == ("few-shot", fit)
    assert ask(Contender("stock", "m"), QUESTION, limit_tokens=1).cut


def test_all_answer_the_same_rows_in_rounds_as_long_as_the_budget_lasts():
    asked = []

    def ask(contender, row, *, limit_tokens):
        asked.append((contender.role, limit_tokens))
        return Reply("a", 1.0, 1, 1)

    contenders = [Contender("stock", "m"), Contender("tuned", "m")]
    replies = hold_trial(contenders, rows(25), ask, budget_s=0.0)
    assert [len(said) for said in replies] == [10, 10]  # the first round is asked whatever it takes
    assert asked[:2] == [("stock", 1), ("stock", limit_for(rows(25)))]  # one warms up
    assert [len(said) for said in hold_trial(contenders, rows(25), ask)] == [25, 25]


def test_a_reply_may_be_as_long_as_the_longest_reference():
    assert limit_for([Row((), "x" * 100), Row((), "y")]) == 100
    assert limit_for([Row((), "日" * 60)]) == 180
    assert limit_for([Row((), "yes")]) == 32
    assert limit_for([Row((), "x" * 1000)]) == limit_for([Row(())]) == 256


def test_misspelled_words_of_all_words():
    assert MISSPELLED.score("teh cat", None) == 0.5
    assert EXACT.score("teh cat", None) == 0.0
