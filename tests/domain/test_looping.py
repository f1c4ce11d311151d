import threading

import pytest
from structlog.testing import capture_logs

from luthier.domain.looping import Crew, Looping
from tests.domain.workers import until
from tests.patience import PATIENCE_S


@pytest.fixture
def ended():
    """Ends workers, whatever became of the test."""
    workers = []
    yield workers.append
    for worker in workers:
        worker.stop()


def test_a_bell_ends_a_rest(ended):
    bell, looked = threading.Event(), threading.Semaphore(0)
    looping = Looping("test", lambda: bool(looked.release()), bell)
    looping.rest_s = 10 * PATIENCE_S
    looping.start()
    ended(looping)
    assert looked.acquire(timeout=PATIENCE_S)
    bell.set()
    assert looked.acquire(timeout=PATIENCE_S)


def test_whoever_ends_makes_room_for_what_waits(ended):
    waiting, done, resting = [1, 2], [], threading.Event()

    class Bell(threading.Event):
        def wait(self, timeout=None):
            resting.set()
            return super().wait(timeout)

    def do(one):
        assert resting.wait(PATIENCE_S)  # nobody has a hand free by now
        done.append(one)

    crew = Crew("test", 1, lambda _: [waiting.pop(0)] if waiting else [], do, Bell())
    crew.rest_s = 10 * PATIENCE_S
    crew.start()
    ended(crew)
    until(lambda: done == [1, 2])


def test_work_that_fails_is_told_and_its_hand_is_free_again(ended):
    tried = []

    def do(one):
        tried.append(one)
        raise KeyError(one)

    waiting = [1, 2]
    crew = Crew("test", 1, lambda _: [waiting.pop(0)] if waiting else [], do, threading.Event())
    crew.rest_s = 10 * PATIENCE_S
    with capture_logs() as logs:
        crew.start()
        ended(crew)
        until(lambda: len([log for log in logs if log["log_level"] == "error"]) == 2)
    assert tried == [1, 2]


def test_work_under_way_is_ended_before_it_stops():
    begun, go_on, done = threading.Event(), threading.Event(), []

    def do(one):
        begun.set()
        go_on.wait()
        done.append(one)

    crew = Crew("test", 1, lambda _: [1] if not begun.is_set() else [], do, threading.Event())
    crew.start()
    assert begun.wait(PATIENCE_S)
    threading.Timer(0.1, go_on.set).start()
    crew.stop()
    assert done == [1]
