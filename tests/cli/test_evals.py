import json

import pytest

from luthier.cli.eval_report import Share
from tests.cli.test_commands import failing, luthier
from tests.conftest import KEY, serving
from tests.contract.objects import BASE

FILE = """
name: Capitals
data: rows.jsonl
models: [{base}]
messages: [{{role: user, content: "{{{{ item.question }}}}"}}]
testing_criteria:
  - name: exact
    type: string_check
    operation: eq
    input: "{{{{sample.output_text}}}}"
    reference: "{{{{item.answer}}}}"
  - {{name: has e, type: string_check, operation: like, input: "{{{{sample.output_text}}}}", reference: e}}
"""


@pytest.fixture(scope="module")
def working(tmp_path_factory):
    """A server that runs evals."""
    with serving(tmp_path_factory.mktemp("data")) as running:
        yield running


@pytest.fixture
def environment(working, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", working.url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def file(tmp_path):
    rows = [{"question": "Rome", "answer": "Rome"}, {"item": {"question": "Oslo", "answer": "Bern", "more": 1}}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    path = tmp_path / "eval.yaml"
    path.write_text(FILE.format(base=BASE))
    return path


def test_an_eval_is_run_from_a_file(environment, file, tmp_path):
    done = luthier("evals", "run", file, "--out", tmp_path / "out")
    lines = {line.split("  ")[0]: line.split(None, 1)[1] for line in done.stdout.splitlines() if "  " in line}
    assert "1 of 2  50% (9% to 91%)" in lines["exact"]
    assert "1 of 2" in lines["has e"]
    written = json.loads((tmp_path / "out.json").read_text())
    [run] = written["runs"]
    assert (run["model"], run["criteria"]["exact"], run["errored"]) == (BASE, {"passed": 1, "total": 2}, 0)
    assert (tmp_path / "out.png").stat().st_size > 5000


def test_answers_that_are_there_are_graded_without_a_model(environment, file):
    text = file.read_text().replace(f"models: [{BASE}]\n", "")
    file.write_text("\n".join(line for line in text.splitlines() if not line.startswith("messages")))
    rows = [{"item": {"answer": "Rome"}, "sample": {"output_text": "Rome"}}]
    (file.parent / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert "1 of 1" in luthier("evals", "run", file).stdout


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("name: Cap", "nome: Cap", 'unknown key "nome"'),
        ("rows.jsonl", "none.jsonl", "none.jsonl: No such file"),
        ("data: rows.jsonl", "data: [1]", '"data" should be the name of a JSONL file'),
        (f"models: [{BASE}]", "", "give both, or neither"),
        ("[", "{", "eval.yaml: while parsing"),
        (BASE, "nobody", "The model `nobody` does not exist"),
        ("item.answer", "os.environ", "no path into item or sample"),
    ],
)
def test_what_is_wrong_is_one_line(environment, file, old, new, words):
    file.write_text(file.read_text().replace(old, new))
    assert words in failing("evals", "run", file)


def test_a_bad_row_is_named_by_its_line(environment, file):
    (file.parent / "rows.jsonl").write_text('{"question": "x"}\n{')
    assert "rows.jsonl: line 2: not valid JSON" in failing("evals", "run", file)


@pytest.mark.parametrize(
    ("passed", "total", "low", "high"), [(0, 10, 0, 0.2775), (10, 10, 0.7225, 1), (81, 263, 0.2553, 0.3662)]
)
def test_intervals_are_wilsons(passed, total, low, high):
    """The third is Newcombe's example (1998, table I, method 3)."""
    assert Share(passed, total).interval == pytest.approx((low, high), abs=1e-4)
