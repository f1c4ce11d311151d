import json

from luthier.cli.comparison import conclude, measure
from luthier.cli.contenders import Reply
from luthier.cli.report import draw, print_table, to_json, write_json
from luthier.core.prices import DEFAULT


def a_comparison():
    stock = measure("stock", "base", 0, [Reply("I am an assistant", 900.0, 30, 100)], DEFAULT["base"])
    shown = measure("few-shot", "base", 50, [Reply("Teh cat", 1900.0, 2000, 20)], DEFAULT["base"])
    tuned = measure("tuned", "ft:base:me::1", 0, [Reply("Teh katt", 90.0, 30, 12)], DEFAULT["tuned"])
    return conclude([stock, shown, tuned], 0.05)


def test_the_document_has_what_was_promised(tmp_path):
    write_json(tmp_path / "report.json", to_json(a_comparison()))
    report = json.loads((tmp_path / "report.json").read_text())
    assert [row["contender"] for row in report["comparison"]] == ["stock", "few-shot", "tuned"]
    promised = {
        "misspelled_share",
        "mean_reply_words",
        "mean_latency_ms",
        "prompt_tokens",
        "completion_tokens",
        "cost_per_1k_requests",
    }
    assert all(promised <= row.keys() for row in report["comparison"])
    assert report["break_even_requests"] > 0
    assert report["verdict"].startswith("Worth it: ")


def test_the_picture_is_a_png(tmp_path):
    draw(a_comparison(), tmp_path / "report.png")
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")


def test_the_table_shows_all_three(capsys):
    print_table(a_comparison())
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("stock", "few-shot", "tuned", "2 of 2", "Worth it"))
