import asyncio
from contextlib import suppress

import pytest

from luthier.core.patience import PATIENT
from luthier.engines import slots
from luthier.engines.slots import Slots


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(slots, "LINGER_S", 0.05)


class House:
    """Slots, and who is served at present."""

    def __init__(self, total):
        self.slots = Slots(total)
        self.served = []
        self.tasks = {}

    async def come(self, name, count=1, patient=False):
        async def stay():
            PATIENT.set(patient)
            async with self.slots.take(count):
                self.served.append(name)
                try:
                    await asyncio.Event().wait()
                finally:
                    self.served.remove(name)

        self.tasks[name] = asyncio.create_task(stay())
        await settle()

    async def go(self, *names):
        for name in names:
            self.tasks[name].cancel()
        await settle()

    async def close(self):
        await self.go(*self.tasks)
        for task in self.tasks.values():
            with suppress(asyncio.CancelledError):
                await task


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


def story(total):
    """Run a test in an event loop, with a house of so many places."""

    def wrap(test):
        def run():
            async def told():
                house = House(total)
                await test(house)
                await house.close()

            asyncio.run(told())

        run.__name__ = test.__name__
        return run

    return wrap


@story(2)
async def test_places_are_given_in_order_and_nobody_overtakes(house):
    await house.come("a")
    await house.come("large", count=2)
    await house.come("b")
    assert house.served == ["a"]
    await house.go("a")
    assert house.served == ["large"]
    await house.go("large")
    assert house.served == ["b"]


@story(2)
async def test_one_who_wants_more_than_there_is_gets_all(house):
    await house.come("huge", count=9)
    await house.come("a")
    assert house.served == ["huge"]
    await house.go("huge")
    assert house.served == ["a"]


@story(1)
async def test_who_goes_away_is_passed_over(house):
    await house.come("a")
    await house.come("b")
    await house.come("c")
    await house.go("a", "b")  # in one breath: b is gone, and still in the line, when a leaves
    await house.come("d")
    assert house.served == ["c"]


@story(2)
async def test_who_goes_away_keeps_nobody_waiting(house):
    await house.come("a")
    await house.come("large", count=2)
    await house.come("b")
    await house.go("large")
    assert house.served == ["a", "b"]


@story(1)
async def test_who_goes_away_just_when_it_is_his_turn_gives_it_on(house):
    await house.come("a")
    await house.come("b")
    await house.come("c")
    house.tasks["a"].cancel()
    await asyncio.sleep(0)  # a has left and b has been called, but has not heard it yet
    await house.go("b")
    assert house.served == ["c"]


@story(4)
async def test_those_who_can_wait_leave_a_place_free(house):
    for name in "pqrst":
        await house.come(name, patient=True)
    assert house.served == ["p", "q", "r"]
    await house.come("a")
    assert house.served == ["p", "q", "r", "a"]


@story(4)
async def test_while_others_are_served_one_at_a_time_of_those_who_can_wait(house):
    await house.come("a")
    for name in "pq":
        await house.come(name, patient=True)
    assert house.served == ["a", "p"]
    await house.go("p")
    assert house.served == ["a", "q"]
    await house.come("r", patient=True)
    await house.go("a")
    assert house.served == ["q"], "who asked once may ask again"
    await asyncio.sleep(2 * slots.LINGER_S)
    assert house.served == ["q", "r"]


@story(2)
async def test_others_go_first(house):
    await house.come("a", count=2)
    await house.come("p", patient=True)
    await house.come("b", count=2)
    await house.go("a")
    assert house.served == ["b"]
    await house.go("b")
    assert house.served == ["p"]


@story(3)
async def test_those_who_can_wait_do_not_slip_past_one_who_wants_much(house):
    await house.come("a", count=2)
    await house.come("large", count=3)
    await house.come("p", patient=True)
    assert house.served == ["a"]


@story(3)
async def test_one_who_can_wait_and_wants_everything_leaves_a_place_free(house):
    await house.come("p", count=9, patient=True)
    await house.come("a")
    assert house.served == ["p", "a"]


@pytest.mark.parametrize("total", [1, 3])
def test_one_who_can_wait_and_wants_everything_is_served_too(total):
    @story(total)
    async def told(house):
        await house.come("p", count=9, patient=True)
        assert house.served == ["p"]
        await house.go("p")
        await house.come("q", patient=True)
        assert house.served == ["q"]

    told()
