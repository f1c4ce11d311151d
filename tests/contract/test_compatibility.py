"""The page that says what works is made from the code, and says what the server does."""

import pytest

from tools.compatibility import PAGE, page


@pytest.fixture(scope="module")
def text():
    return page()


def test_the_page_is_up_to_date(text):
    assert PAGE.read_text() == text, "run make docs"


@pytest.mark.parametrize(
    "row",
    [
        "| `/files/{file_id}` | DELETE, GET | works |",
        "| `/evals` | GET, POST | works |",
        "| `/responses/compact` | POST | refused |",
        "| `audio` | refused | |",
        "| `modalities` | works | `[]`: `audio` |",
        "| `service_tier` | works | `flex`, `scale`, `priority`, `fast`, `ultrafast` |",
    ],
)
def test_it_tells_what_works_from_what_does_not(text, row):
    assert f"\n{row}\n" in text
