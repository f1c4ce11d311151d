import dataclasses
import threading

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from luthier.core.batches import Batch, BatchError, LineResult, Usage
from luthier.core.lists import PageQuery
from luthier.core.outbox import OutboxItem
from luthier.store import batches
from luthier.store.schema import batch_lines, outbox


@pytest.fixture
def make(database, project):
    def create(number=1, **changes):
        batch = Batch(
            id=f"batch_{number}",
            project_id=project.id,
            organization_id=project.organization_id,
            organization=project.organization,
            key_id="key_1",
            created_at=100,
            expires_at=100 + 86_400,
            endpoint="/v1/chat/completions",
            input_file_id="file-1",
            **changes,
        )
        batches.create(database, batch)
        return batch

    return create


def claimed(database, now=100.0):
    return batches.claim(database, "me", now=now, lease_s=30)


def running(database):
    return batches.transition(database, claimed(database), "in_progress", now=101, total=3, model="m", input_sha256="0")


def answered(line, succeeded=True):
    return LineResult(line, succeeded, f"line {line}", Usage(10, 4, 5, 1))


def test_a_batch_is_read_as_it_was_written(database, project, make):
    made = make(metadata={"k": "v"}, output_expires_after_s=3600)
    assert batches.get(database, project.id, made.id) == made
    assert batches.get(database, "proj_2", made.id) is None


def test_lists_are_newest_first_and_in_pages(database, project, make):
    for number in range(3):
        make(number)
    first = batches.list_page(database, project.id, PageQuery(limit=2))
    assert ([b.id for b in first.items], first.has_more) == (["batch_2", "batch_1"], True)
    second = batches.list_page(database, project.id, PageQuery(limit=2, after="batch_1"))
    assert ([b.id for b in second.items], second.has_more) == (["batch_0"], False)


def test_one_claims_and_another_takes_over_when_the_lease_is_over(database, make):
    make()
    first = claimed(database)
    assert claimed(database, now=129) is None
    assert batches.heartbeat(database, first.id, first.fence, now=129, lease_s=30) is not None
    assert claimed(database, now=131) is None
    second = claimed(database, now=160)
    assert second.fence == first.fence + 1
    assert batches.heartbeat(database, first.id, first.fence, now=161, lease_s=30) is None
    assert batches.transition(database, first, "in_progress", now=161) is None
    assert batches.record(database, first, answered(1)) is False
    assert batches.recorded(database, first.id) == set()


def test_a_released_batch_is_free_at_once(database, make):
    make()
    first = claimed(database)
    batches.release(database, first.id, first.fence)
    assert claimed(database).fence == first.fence + 1


def test_each_batch_is_claimed_once_however_many_ask(database, make):
    for number in range(10):
        make(number)
    got = []

    def work():
        while (batch := claimed(database)) is not None:
            got.append(batch.id)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == sorted(f"batch_{n}" for n in range(10))


def test_results_are_counted_with_their_tokens(database, project, make):
    make()
    batch = running(database)
    for line in (3, 1):
        assert batches.record(database, batch, answered(line))
    assert batches.record(database, batch, answered(2, succeeded=False))
    seen = batches.get(database, project.id, batch.id)
    assert (seen.total, seen.completed, seen.failed) == (3, 2, 1)
    assert (seen.input_tokens, seen.cached_tokens, seen.output_tokens, seen.reasoning_tokens) == (30, 12, 15, 3)
    assert batches.recorded(database, batch.id) == {1, 2, 3}


def test_a_line_has_one_result(database, project, make):
    make()
    batch = running(database)
    batches.record(database, batch, answered(1))
    with pytest.raises(IntegrityError):
        batches.record(database, batch, answered(1))
    assert batches.get(database, project.id, batch.id).completed == 1


def test_texts_come_in_the_order_of_the_input(database, make, monkeypatch):
    monkeypatch.setattr(batches, "LINES_AT_ONCE", 2)
    make()
    batch = running(database)
    for line in (5, 3, 9, 1, 7):
        batches.record(database, batch, answered(line, succeeded=line != 3))
    assert list(batches.texts(database, batch.id, succeeded=True)) == ["line 1", "line 5", "line 7", "line 9"]
    assert list(batches.texts(database, batch.id, succeeded=False)) == ["line 3"]


def test_cancelling_beats_what_its_holder_would_do(database, project, make):
    make()
    batch = running(database)
    assert batches.request_cancel(database, "proj_2", batch.id, now=110) is None
    cancelling = batches.request_cancel(database, project.id, batch.id, now=110)
    assert (cancelling.status, cancelling.cancelling_at) == ("cancelling", 110)
    assert batches.transition(database, batch, "finalizing", now=111) is None
    held = batches.heartbeat(database, batch.id, batch.fence, now=111, lease_s=30)
    assert held.status == "cancelling"
    cancelled = batches.transition(database, held, "cancelled", now=112)
    assert (cancelled.status, cancelled.finished_at) == ("cancelled", 112)
    assert claimed(database, now=10_000) is None


@pytest.mark.parametrize("status", ["finalizing", "completed", "failed", "cancelled"])
def test_what_is_at_its_end_is_not_cancelled(database, project, make, status):
    batch = make(status=status)
    assert batches.request_cancel(database, project.id, batch.id, now=110) is None


def test_a_transition_takes_its_errors_and_notices_along(database, project, make):
    make()
    batch = claimed(database)
    item = OutboxItem("d_1", project.id, "webhook", "batch.failed", {}, 110)
    error = BatchError("invalid_json_line", "This line is not parseable as valid JSON.", line=2)
    assert (
        batches.transition(database, dataclasses.replace(batch, fence=99), "failed", now=110, outbox_items=[item])
        is None
    )
    batches.transition(database, batch, "failed", now=110, errors=[error], outbox_items=[item])
    seen = batches.get(database, project.id, batch.id)
    assert (seen.status, seen.errors, seen.finished_at) == ("failed", [error], 110)
    with database.read() as connection:
        assert connection.scalars(select(outbox.c.id)).all() == ["d_1"]


def test_ways_that_do_not_exist_are_not_gone(database, make):
    make()
    with pytest.raises(ValueError, match="no way leads from validating to completed"):
        batches.transition(database, claimed(database), "completed", now=110)


def test_purging_removes_the_lines_of_that_batch_alone(database, make, monkeypatch):
    monkeypatch.setattr(batches, "LINES_AT_ONCE", 2)
    make(1)
    batch = running(database)
    make(2)
    other = running(database)
    for line in range(1, 6):
        batches.record(database, batch, answered(line))
    batches.record(database, other, answered(1))
    assert batches.to_purge(database) == []
    finalizing = batches.transition(database, batch, "finalizing", now=120)
    batches.transition(database, finalizing, "completed", now=121)
    assert batches.to_purge(database) == [batch.id]
    batches.purge(database, batch.id, now=122)
    assert batches.to_purge(database) == []
    with database.read() as connection:
        left = connection.execute(select(batch_lines.c.batch_id, func.count()).group_by(batch_lines.c.batch_id)).all()
    assert left == [(other.id, 1)]
