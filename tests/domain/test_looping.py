import threading

import pytest

from luthier.domain.looping import Crew, Looping
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
    waiting, done = list(range(5)), threading.Semaphore(0)

    def take(free):
        taken = waiting[:free]
        del waiting[:free]
        return taken

    crew = Crew("test", 2, take, lambda _: done.release(), threading.Event())
    crew.rest_s = 10 * PATIENCE_S
    crew.start()
    ended(crew)
    for _ in range(5):
        assert done.acquire(timeout=PATIENCE_S)


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
