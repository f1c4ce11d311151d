"""A file's check: counts, what becomes of each line, and what ends a job before it starts."""

import json
import tracemalloc

import pytest

from luthier.core.errors import JobFailed
from luthier.data.chats import DataFile
from luthier.data.groups import groups
from luthier.data.receipt import Summary, check, read_receipt
from luthier.data.repeats import Seen
from tests.tiny import chat_line, make_base, preference_line

MASKED = json.dumps(
    {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 0}]}
)


@pytest.fixture
def base(tmp_path):
    return make_base(tmp_path / "base")


def checked(tmp_path, base, lines, *, method="supervised", context_tokens=512, which="training", **seen):
    data, receipt = tmp_path / "data.jsonl", tmp_path / "receipt.jsonl"
    data.write_text("\n".join(lines))
    summary = check(DataFile(data, which), base, method, context_tokens, receipt=receipt, **seen)
    return summary, list(read_receipt(receipt))


def test_counts_are_those_of_the_lines(tmp_path, base):
    lines = [chat_line(f"question {i}", "x" * i) for i in range(12)]
    summary, receipt = checked(tmp_path, base, lines)
    assert [line.trained_tokens for line in receipt] == [i + 1 for i in range(12)]  # each byte, and the end of turn
    assert summary == Summary(12, sum(line.tokens for line in receipt), sum(range(1, 13)), 0, 0, 0)


def test_a_preference_counts_both_answers(tmp_path, base):
    summary, _ = checked(tmp_path, base, [preference_line("q", "ab", "cde")] * 10, method="dpo")
    assert summary.trained_tokens == 10 * (3 + 4)


def test_what_cannot_be_learnt_is_dropped_and_what_is_too_long_is_cut(tmp_path, base):
    lines = [chat_line("q", "a")] * 10 + [MASKED, chat_line("q" * 200, "a"), chat_line("q", "a" * 200)]
    summary, receipt = checked(tmp_path, base, lines, context_tokens=100)
    assert (summary.examples, summary.dropped_lines, summary.cut_lines) == (11, 2, 1)
    masked, late, cut = receipt[-3:]
    assert masked.reason == "all that could be learnt in it is empty or has weight 0"
    assert late.dropped
    assert (
        late.reason
        == f"longer than the context by {late.cut_tokens} tokens, and what is to be learnt stands past its end"
    )
    assert (cut.dropped, cut.tokens) == (False, 100)
    assert cut.reason == f"longer than the context: the last {cut.cut_tokens} tokens are cut"


LONG = "the quick brown fox jumps over the lazy dog and then over {} of the other animals that it meets"


def test_repeats_and_leaks_name_the_line_that_said_it_first(tmp_path, base):
    seen = Seen()
    lines = [chat_line(f"question {i}", "yes") for i in range(10)]
    lines += [chat_line(LONG.format("all"), "yes"), chat_line(LONG.format("some"), "yes"), lines[3]]
    summary, receipt = checked(tmp_path, base, lines, seen=seen)
    assert [(line.duplicate_of, line.near_duplicate_of) for line in receipt[10:]] == [
        (None, None),
        (None, 11),
        (4, None),
    ]
    assert (summary.duplicate_lines, summary.near_duplicate_lines, summary.leaked_lines) == (1, 1, 0)
    held_out = [chat_line("question 20", "yes"), lines[5], chat_line(LONG.format("few"), "yes", system="another")]
    summary, receipt = checked(tmp_path, base, held_out, which="validation", leaks_from=seen)
    assert [line.leak_of for line in receipt] == [None, 6, 11]
    assert summary.leaked_lines == 2


def test_lines_that_are_half_alike_take_no_more_time_each(monkeypatch):
    """Beyond so many of them near copies are not found; the same words always are."""
    monkeypatch.setattr("luthier.data.repeats.MOST_ALIKE", 20)
    frame = " ".join(f"word{i}" for i in range(60))
    own = [" ".join(f"own{line}x{i}" for i in range(14)) for line in range(100)]
    seen = Seen()
    assert [seen.add(n, f"{frame} {words}") for n, words in enumerate(own, 1)] == [None] * 100
    assert len(seen._near) < 90
    assert seen.find(f"{frame} {own[0]} again").line == 1
    assert seen.find(f"{frame} {own[99]} again") is None
    assert seen.find(f"{frame} {own[99]}").same


def test_ten_examples_are_needed_to_train_and_one_to_validate(tmp_path, base):
    lines = [chat_line("q", "a")] * 7
    with pytest.raises(JobFailed) as failed:
        checked(tmp_path, base, lines)
    assert failed.value.message == "Training file has 7 example(s), but must have at least 10 examples"
    assert (failed.value.code, failed.value.param) == ("invalid_n_examples", "training_file")
    assert checked(tmp_path, base, lines, which="validation")[0].examples == 7


def test_a_file_with_nothing_to_learn_fails_with_its_first_line(tmp_path, base):
    with pytest.raises(JobFailed, match=r"No example has a token to learn. Example 1: all that could be learnt in it"):
        checked(tmp_path, base, [MASKED] * 10)
    with pytest.raises(JobFailed, match="Example 1: longer than the context by"):
        checked(tmp_path, base, [chat_line("q", "a")] * 10, context_tokens=20)
    with pytest.raises(JobFailed, match=r"The file is empty\."):
        checked(tmp_path, base, [""], which="validation")


def test_a_failed_check_leaves_no_receipt(tmp_path, base):
    with pytest.raises(JobFailed):
        checked(tmp_path, base, ["{}"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["base", "data.jsonl"]


def test_a_chat_that_the_template_refuses_ends_the_check(tmp_path):
    base = make_base(tmp_path / "base", template="{{ raise_exception('no system prompts here') }}")
    with pytest.raises(JobFailed, match=r"Invalid file format. Example 1, the base model's chat template refuses"):
        checked(tmp_path, base, [chat_line("q", "a")] * 10)


def test_a_large_file_takes_no_more_memory_than_a_small_one(tmp_path, base, monkeypatch):
    monkeypatch.setattr("luthier.data.groups.MOST", 16)

    def peak(count):
        data = tmp_path / "data.jsonl"
        data.write_text("\n".join([chat_line("q" * 4000, "a")] * count))
        tracemalloc.start()
        check(DataFile(data), base, "supervised", 8192)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    small, large = peak(32), peak(160)
    assert large - small < 0.5 * 128 * 4000  # what the other lines say is not held


def test_long_lines_take_no_more_memory_together_than_one(tmp_path, base):
    """In either place where lines are held: parsed, and as tokens."""

    def peak(count):
        data = tmp_path / "data.jsonl"
        data.write_text("\n".join([chat_line("q" * 2_000_000, "a" * 50)] * count))
        tracemalloc.start()
        check(DataFile(data, "validation"), base, "supervised", 4_000_000)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(6) < 1.5 * peak(1)


def test_groups_end_with_their_number_or_their_size(monkeypatch):
    monkeypatch.setattr("luthier.data.groups.MOST", 3)
    monkeypatch.setattr("luthier.data.groups.ENOUGH", 10)
    assert list(groups([1, 2, 3, 4, 7, 50, 1], lambda size: size)) == [[1, 2, 3], [4, 7], [50], [1]]


def test_a_check_that_is_ended_leaves_no_receipt(tmp_path, base):
    path, lines = tmp_path / "chats.jsonl", iter(range(3))
    path.write_text('{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n' * 20)

    class Interrupted(Exception):
        pass

    def go_on():
        if next(lines, None) is None:
            raise Interrupted

    with pytest.raises(Interrupted):
        check(DataFile(path), base, "supervised", 100, receipt=tmp_path / "receipt.jsonl", go_on=go_on)
    assert not (tmp_path / "receipt.jsonl").exists()
