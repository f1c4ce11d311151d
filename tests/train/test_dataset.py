"""Which lines are read, in which order, and what of them is held."""

import tracemalloc

import numpy as np
import pytest

from luthier.data.chats import DataFile
from luthier.data.rows import Rows
from luthier.train.dataset import Dataset, batches, read_kept
from tests.tiny import chat_line

LINE = '{"prompt":"a","completion":"b"}\n'
RECEIPT = (
    '{{"file": "training", "line": {}, "tokens": {}, "trained_tokens": 1, "masked_tokens": 0, "cut_tokens": 0, '
    '"dropped": {}, "reason": null}}\n'
)


def test_an_epochs_order_is_the_generators():
    order = batches(10, 4, seed=3, epoch=2)
    assert [number for batch in order for number in batch] == np.random.default_rng([3, 2]).permutation(10).tolist()
    assert ([len(batch) for batch in order], len(order)) == ([4, 4, 2], 3)
    assert order[2].tolist() == order.order[8:].tolist()
    tokens = np.arange(10, dtype=np.int32)
    assert order.sums(tokens).tolist() == [int(tokens[batch].sum()) for batch in order]


def test_what_the_receipt_dropped_is_passed_over(tmp_path, base):
    (tmp_path / "data").write_text("".join(chat_line(f"{n}", "a") + "\n\n" for n in range(3)))
    receipt = tmp_path / "receipt"
    receipt.write_text(RECEIPT.format(1, 7, "false") + RECEIPT.format(3, 0, "true") + RECEIPT.format(5, 9, "false"))
    data = Dataset(DataFile(tmp_path / "data"), Rows(base, 100), "supervised", read_kept(receipt))
    assert data.tokens.tolist() == [7, 9]
    found = [(line, chat.messages[1]["content"]) for line, chat in data.examples(np.array([1, 0]))]
    assert found == [(5, "2"), (1, "0")]


@pytest.mark.parametrize("head", ["\ufeff", "\ufeff\n", "\ufeff\n\n", "\n"])
def test_a_mark_at_the_files_head_is_no_line(tmp_path, base, head):
    (tmp_path / "data").write_text(head + LINE * 3)
    data = Dataset(DataFile(tmp_path / "data"), Rows(base, 100), "supervised")
    assert len(data) == 3
    assert [line for line, _ in data.examples(range(3))] == [head.count("\n") + n for n in (1, 2, 3)]


def test_millions_of_short_lines_take_some_bytes_each(tmp_path, base):
    count = 40_000
    (tmp_path / "data").write_text(LINE * count)
    with (tmp_path / "receipt").open("w") as receipt:
        receipt.writelines(RECEIPT.format(n, 3, "false") for n in range(1, count + 1))
    rows = Rows(base, 100)
    tracemalloc.start()
    data = Dataset(DataFile(tmp_path / "data"), rows, "supervised", read_kept(tmp_path / "receipt"))
    order = batches(len(data), 2, seed=1, epoch=0)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(order) == count / 2
    assert held < 40 * count
    assert peak < 60 * count
