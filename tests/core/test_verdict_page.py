"""The document of a verdict, its page and its table."""

import json
from dataclasses import replace
from html.parser import HTMLParser

from luthier.cli.report import draw, print_table
from luthier.core.verdict.document import document
from luthier.core.verdict.judging import CurvePoint, Forgetting, judge
from luthier.core.verdict.page import page
from tests.core.test_judging import ROWS, contender, trial


def a_document(**changes):
    checkpoint = contender("checkpoint", 30, model="ft:base:me::1:ckpt-step-30")
    found = trial(2, 20, 36, checkpoint, losses={30: 0.5, 60: 0.9}, leaked_rows=3, **changes)
    return document(found, judge(found))


class Tags(HTMLParser):
    """Every opened tag is closed, in order; remembers addresses and what stands in headings."""

    def __init__(self, text):
        super().__init__()
        self.open, self.links, self.headings = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in {"href", "src"}]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in {"h1", "h2"}:
            self.headings.append(data)


def test_the_document_is_json_with_flips_and_gains():
    found = json.loads(json.dumps(a_document()))
    assert [entry["contender"] for entry in found["comparison"]] == ["stock", "few-shot", "tuned", "checkpoint"]
    few = found["comparison"][1]
    assert (few["better"], few["worse"], few["gain"]) == (16, 0, 0.4)
    assert few["gain_low"] > 0
    assert found["comparison"][2]["gain"] is None
    assert found["rows"][0]["replies"][0] == {"contender": "stock", "text": "a0", "score": 1.0}


def test_the_page_stands_alone_and_tells_all_parts():
    forgetting = Forgetting((1.0,) * 20, (0.0,) * 20)
    tags = Tags(page(a_document(forgetting=forgetting, curve=(CurvePoint(15, (0.0,) * 40),)), title="ft:<base>"))
    assert (tags.open, tags.links) == ([], [])
    assert tags.headings == [
        "Worth it",
        "Quality",
        "Cost of 1,000 requests",
        "Time for a reply",
        "Side by side",
        "What it still knows",
        "More examples",
        "While it trained",
        "Row by row",
    ]


def test_what_cannot_be_measured_has_a_page_and_a_table_too(capsys):
    few = replace(trial(2, 3, 4, leaked_rows=9), rows=ROWS[:3], contenders=())
    found = document(few, judge(few))
    assert Tags(page(found, title="m")).headings == ["Not measurable"]
    print_table(found)
    assert "3 rows to measure on are too few" in capsys.readouterr().out


def test_the_table_shows_all_contenders(capsys):
    print_table(a_document())
    printed = capsys.readouterr().out
    words = ("stock", "few-shot (5 examples)", "tuned", "checkpoint 30", "16 / 0", "90%", "Worth it")
    assert [word for word in words if word not in printed] == []


def test_the_picture_is_a_png(tmp_path):
    draw(a_document(), tmp_path / "report.png", title="Right")
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
