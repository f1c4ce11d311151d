"""What a person is told of a file before training on it."""

import json

import pytest

from luthier.core.errors import JobFailed
from luthier.data.chats import DataFile, read_examples
from luthier.data.repeats import Seen
from luthier.data.survey import format_errors, method_of, rendered, survey
from tests.tiny import chat_line, make_base, preference_line


@pytest.fixture
def base(tmp_path):
    return make_base(tmp_path / "base")


def written(tmp_path, *lines):
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(lines))
    return DataFile(path)


def test_every_bad_line_is_named(tmp_path):
    """The format checks of OpenAI's cookbook, one a line."""
    file = written(
        tmp_path,
        chat_line("q", "a"),
        '{"messages": []}',
        '{"messages": [{"role": "user"}]}',
        '{"messages": [{"role": "usr", "content": "x"}]}',
        '{"messages": [{"role": "user", "content": "x", "mood": "good"}, {"role": "assistant", "content": "y"}]}',
        '{"messages": [{"role": "user", "content": "x"}]}',
        "[]",
        "not json",
    )
    found = format_errors(file, "supervised")
    assert len(found) == 7
    for number, (error, words) in enumerate(
        zip(
            found,
            ("messages", "content", "role 'usr'", '"mood"', "from the assistant", "object", "parsed"),
            strict=True,
        ),
        2,
    ):
        assert str(number) in error
        assert words in error


def test_a_byte_order_mark_begins_the_file_and_no_other_line(tmp_path):
    """The survey finds what a job would fail with."""
    marked = f"\ufeff{chat_line('q', 'a')}"
    file = written(tmp_path, marked, chat_line("q", "a"), marked)
    [error] = format_errors(file, "supervised")
    with pytest.raises(JobFailed, match="line 3") as failed:
        list(read_examples(file, "supervised"))
    assert failed.value.message.endswith(error)


def test_counts_roles_and_what_is_odd(tmp_path, base):
    plain = json.dumps({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "abc"}]})
    file = written(tmp_path, chat_line("other", "abcde"), plain, plain)
    found = survey(file, base, "supervised", 512, Seen())
    assert list(found.trained) == [6, 4, 4]
    assert (found.summary.duplicate_lines, found.without_system, found.without_user) == (1, 2, 0)
    assert found.roles == {"system": 1, "user": 3, "assistant": 3}
    assert found.reasons == ["line 3 says the same as line 2"]


def test_rows_are_shown_as_the_model_sees_them(tmp_path, base):
    [shown] = rendered(written(tmp_path, chat_line("q", "añ")), base, "supervised", 512, 5)
    assert [piece for piece, learnt in shown.pieces if learnt] == ["añ<|im_end|>"]
    assert "".join(piece for piece, _ in shown.pieces).startswith("<|im_start|>system\nmisspell")


def test_preferences_are_known_by_their_first_line(tmp_path, base):
    file = written(tmp_path, "", preference_line("q", "ab", "cde"))
    assert method_of(file) == "dpo"
    assert len(rendered(file, base, "dpo", 512, 5)) == 2
