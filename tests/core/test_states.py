import re
from pathlib import Path

from luthier.core.states import FINAL, TRANSITIONS


def test_every_state_reaches_an_end_and_ends_go_nowhere():
    for status, following in TRANSITIONS.items():
        assert (not following) == (status in FINAL)
        assert following <= set(TRANSITIONS)
        assert status in FINAL or following & FINAL


def test_a_job_can_fail_and_be_cancelled_from_everywhere():
    assert all({"failed", "cancelled"} <= f for s, f in TRANSITIONS.items() if s not in FINAL)


def test_the_diagram_in_the_docs_is_the_codes():
    page = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text()
    drawn = re.findall(r"^    (\w+) → (\w+)", page, re.MULTILINE)
    assert sorted(drawn) == sorted((start, end) for start, ends in TRANSITIONS.items() for end in ends)
