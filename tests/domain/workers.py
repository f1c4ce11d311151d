"""Workers under test: at work for a while, and waited for."""

import time
from contextlib import contextmanager

from anyio.from_thread import start_blocking_portal

from tests.patience import PATIENCE_S


@contextmanager
def working(kind, platform, ask):
    """A worker of this kind, at work until the end of the block."""
    with start_blocking_portal() as portal:
        worker = kind(platform, ask, portal)
        worker.start()
        try:
            yield worker
        finally:
            worker.stop()


def until(condition, timeout_s=PATIENCE_S):
    """What the condition answers, once it is something."""
    end = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)
    return found
