"""What a trainer says, as a job's events."""

from luthier.core.run import RunEvent
from luthier.domain.progress import event_of


def test_each_halving_of_a_step_is_told():
    halvings = [RunEvent("warning", 7, 0.0, {"message": f"{n} left", "token_budget": n}) for n in (400, 200)]
    told = [event_of(event) for event in halvings]
    assert [event.message for event in told] == ["400 left", "200 left"]
    assert told[0].key != told[1].key
    assert event_of(halvings[0]).key == told[0].key
