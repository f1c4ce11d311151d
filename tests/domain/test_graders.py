import json
import math
import time

import pytest

from luthier.core.errors import InvalidRequest
from luthier.domain import graders
from luthier.domain.asking import Answer
from luthier.domain.eval_samples import names_of_text
from luthier.domain.graders import formula, jail, templates

ITEM = {"answer": "Paris", "deep": {"list": [{"name": "x"}], "a-b": 1.5}, "none": None}
CHECK = {"type": "string_check", "name": "check", "operation": "eq"}
LIKE = {"type": "text_similarity", "name": "like", "input": "{{sample.output_text}}", "reference": "{{item.answer}}"}
SCORE = {
    "type": "score_model",
    "name": "judge",
    "model": "m",
    "input": [{"role": "user", "content": "{{item.answer}}?"}],
}
LABEL = {**SCORE, "type": "label_model", "labels": ["good", "bad"], "passing_labels": ["good"]}

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Model:
    """Says a text, and remembers what it was asked."""

    def __init__(self, content=None, *, refusal=None, status=200):
        message = {"role": "assistant", "content": content, "refusal": refusal}
        usage = {"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}}
        self.body = {"model": "m-1", "choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}
        self.status = status
        self.asked = []

    async def __call__(self, path, body):
        self.asked.append((path, body))
        if self.status != 200:
            return Answer(self.status, "", {"error": {"message": "no engine", "code": None}})
        if path == "/v1/embeddings":
            vectors = [{"embedding": [1.0, 0.0]}, {"embedding": [1.0, 1.0]}]
            return Answer(200, "", {"model": "e", "data": vectors, "usage": {"prompt_tokens": 2}})
        return Answer(200, "", self.body)


async def graded(document, said="Paris", *, item=ITEM, model=None):
    grader = graders.of(document)
    await grader.check()
    return await graders.grade(grader, graders.Case(item, names_of_text(said), model or Model(), "e"))


@pytest.mark.parametrize(
    ("operation", "text", "score"),
    [
        ("eq", "Paris", 1),
        ("eq", "paris", 0),
        ("ne", "Rome", 1),
        ("ne", "Paris", 0),
        ("like", "in Paris.", 1),
        ("like", "in paris.", 0),
        ("ilike", "in PARIS.", 1),
        ("ilike", "Rome", 0),
    ],
)
async def test_string_check(operation, text, score):
    document = {**CHECK, "operation": operation, "input": "{{sample.output_text}}", "reference": "{{ item.answer }}"}
    assert (await graded(document, text)).score == score


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{item.deep.list[0].name}}", "x"),
        ("{{ item.deep['a-b'] }}{{item.deep.a-b}}", "1.51.5"),
        ("{{item.deep}}", '{"list": [{"name": "x"}], "a-b": 1.5}'),
        ("[{{item.none}}]", "[]"),
        ("{{sample.output_json.n}} { {not} }", "3 { {not} }"),
        ("{{sample.output_text}}", '{"n": 3}'),
    ],
)
def test_templates_are_filled(template, text):
    assert templates.fill(template, {"item": ITEM, "sample": names_of_text('{"n": 3}')}) == text


@pytest.mark.parametrize("path", ["item.nobody", "item.answer.x", "item.deep.list[1]", "sample.output_json.x"])
async def test_a_variable_that_is_not_there_is_an_error_of_the_case(path):
    grade = await graded({**CHECK, "input": f"{{{{{path}}}}}", "reference": ""})
    assert (grade.score, grade.errors.found()) == (0, {"invalid_variable_error": True})


@pytest.mark.parametrize("variable", ["os.environ", "item.x()", "items.x", "item..x", "", "item[x]"])
async def test_a_variable_that_can_never_be_is_refused(variable):
    with pytest.raises(InvalidRequest, match="no path into item or sample"):
        await graded({**CHECK, "input": f"{{{{{variable}}}}}", "reference": ""})


@pytest.mark.parametrize(
    ("metric", "score"),
    [
        ("fuzzy_match", 2 * 7 / 18),  # 7 letters of 7 and of 11
        ("bleu", math.exp(1 - 3 / 2)),  # both words and their pair are there; short by one word
        ("gleu", 3 / 6),  # 3 of the reference's 6 n-grams
        ("rouge_1", 0.8),  # precision 1, recall 2/3
        ("rouge_2", 2 / 3),
        ("rouge_l", 0.8),
        ("rouge_5", 0),
        ("cosine", math.sqrt(0.5)),
    ],
)
async def test_text_similarity(metric, score):
    document = {**LIKE, "evaluation_metric": metric}
    grade = await graded(document, "the cat", item={"answer": "the cat sat"})
    assert grade.score == pytest.approx(score)


async def test_meteor_knows_stems_and_no_synonyms():
    async def score(said, wanted):
        return (await graded({**LIKE, "evaluation_metric": "meteor"}, said, item={"answer": wanted})).score

    assert await score("cats sat down", "cat sat down") == pytest.approx(await score("cat sat down", "cat sat down"))
    assert await score("automobile", "car") == 0


@pytest.mark.parametrize("metric", ["fuzzy_match", "bleu", "gleu", "meteor", "rouge_1", "rouge_l"])
async def test_texts_without_words_are_no_error(metric):
    assert (await graded({**LIKE, "evaluation_metric": metric}, "")).score == 0


async def test_a_models_score_is_clipped_and_metered():
    model = Model('{"steps": [], "result": 7}')
    grade = await graded({**SCORE, "range": [1, 5], "sampling_params": {"temperature": 0, "seed": None}}, model=model)
    assert (grade.score, grade.usage[0].total_tokens, grade.usage[0].cached_tokens) == (5, 7, 1)
    [(path, body)] = model.asked
    assert (path, body["messages"], body["temperature"], body["seed"]) == (
        "/v1/chat/completions",
        [{"role": "user", "content": "Paris?"}],
        0,
        42,
    )
    assert body["response_format"]["json_schema"]["schema"]["required"] == ["steps", "result"]


@pytest.mark.parametrize(
    ("model", "errors"),
    [
        (Model("good"), {"model_grader_parse_error": True}),
        (Model('{"steps": [], "result": "high"}'), {"model_grader_parse_error": True}),
        (Model(None, refusal="No."), {"model_grader_refusal_error": True}),
        (
            Model(status=503),
            {"model_grader_server_error": True, "model_grader_server_error_details": "no engine"},
        ),
    ],
)
async def test_what_goes_wrong_with_a_model_is_said(model, errors):
    grade = await graded(SCORE, model=model)
    assert (grade.score, grade.errors.found()) == (0, errors)


@pytest.mark.parametrize(("label", "score"), [("good", 1), ("bad", 0)])
async def test_a_models_label_passes_or_not(label, score):
    assert (await graded(LABEL, model=Model(json.dumps({"steps": [], "result": label})))).score == score


@pytest.mark.parametrize(
    "document",
    [
        {**LABEL, "passing_labels": ["best"]},
        {**SCORE, "range": [1, 0]},
        {
            "type": "multi",
            "name": "m",
            "graders": [{**CHECK, "input": "", "reference": ""}],
            "calculate_output": "chek",
        },
    ],
)
async def test_a_grader_that_can_never_grade_is_refused(document):
    with pytest.raises(InvalidRequest):
        await graded(document)


EXACT = {**CHECK, "input": "{{sample.output_text}}", "reference": "{{item.answer}}"}
FUZZY = {**LIKE, "name": "how near", "evaluation_metric": "fuzzy_match"}


@pytest.mark.parametrize(
    ("several", "formula"),
    [
        ([FUZZY, EXACT], "0.5 * text_similarity_score + 0.5 * string_check_score"),
        ([FUZZY, EXACT], "0.5 * how_near + 0.5 * check"),
        ({"near": FUZZY, "same": EXACT}, "(near + same) / 2"),
        (EXACT, "check / 2 + 0.5"),
    ],
)
async def test_several_graders_make_one_score(several, formula):
    document = {"type": "multi", "name": "both", "graders": several, "calculate_output": formula}
    assert (await graded(document)).score == 1
    assert (await graded(document, "Rome")).score < 1


async def test_a_multi_tells_what_went_wrong_inside():
    document = {"type": "multi", "name": "m", "graders": {"a": EXACT, "b": SCORE}, "calculate_output": "1 / b"}
    grade = await graded(document, model=Model("?"))
    assert grade.errors.found() == {"formula_parse_error": True, "model_grader_parse_error": True}
    assert grade.scores == {"a": 1, "b": 0}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3 ^ 2", 19),
        ("-2^2", -4),
        ("min(1, a, 3) / max(4, 2)", 0.125),
        ("abs(-a) - +a", 0),
        ("floor(1.9) + ceil(1.1)", 3),
        ("exp(log(2)) * sqrt(16)", 8),
        ("2^-1", 0.5),
        ("(a)", 0.5),
    ],
)
def test_formulas_have_values(text, value):
    assert formula.evaluate(formula.parse(text), {"a": 0.5}) == pytest.approx(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1 +",
        "0.5 * a)",
        "a.b",
        "a[0]",
        "a if a else b",
        "__import__('os')",
        "open",
        "lambda: 1",
        "True",
        "1 < 2",
        "print(1)",
        "min()",
        "sqrt(1, 2)",
        "min(*a)",
        "log(a, base=2)",
        "a := 1",
        "[1]",
        "1 and 2",
        "'a' * 9",
        "2 ** 3",
        "(" * 500 + "1" + ")" * 500,
        "-" * 999 + "1",
        "1j",
        "a\\b",
        "f'{a}'",
        "1;2",
        "9" * 1001,
    ],
)
def test_what_is_no_formula_is_refused(text):
    try:
        tree = formula.parse(text)
    except InvalidRequest:
        return
    assert formula.names(tree) == {"open"}  # no grader's name


@pytest.mark.parametrize("text", ["1 / 0", "9^9^9^9", "sqrt(-1)", "log(0)", "exp(9999)", "(-8)^0.5", "0^-1"])
def test_formulas_without_a_value_say_so(text):
    with pytest.raises(formula.FormulaError, match="no value"):
        formula.evaluate(formula.parse(text), {})


async def test_without_a_jail_python_is_refused_with_the_remedy(monkeypatch):
    monkeypatch.setattr(jail.shutil, "which", lambda name: None if name == "bwrap" else f"/usr/bin/{name}")
    with pytest.raises(InvalidRequest, match="apt-get install bubblewrap"):
        await graded({"type": "python", "name": "p", "source": "def grade(sample, item): return 1.0"})
    case = graders.Case({}, {}, Model(), "e")
    grade = await graders.of({"type": "python", "name": "p", "source": ""}).grade(case)
    assert grade.errors.python_grader_server_error
    assert "bubblewrap" in grade.errors.python_grader_server_error_type


@pytest.mark.parametrize(("platform", "machine"), [("darwin", "arm64"), ("linux", "riscv64")])
async def test_elsewhere_python_is_refused(monkeypatch, platform, machine):
    monkeypatch.setattr(jail.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(jail.sys, "platform", platform)
    monkeypatch.setattr(jail.seccomp.platform, "machine", lambda: machine)
    with pytest.raises(InvalidRequest, match="Linux only|this server's machine is riscv64"):
        jail.check()


@pytest.mark.parametrize("text", ["{{" + " " * 100_000, "{{" * 50_000, "{{ item.x " * 20_000])
async def test_templates_that_never_close_take_no_time(text):
    began = time.process_time()  # a busy machine takes its time, and none of ours
    await graded({**CHECK, "input": text, "reference": text})
    assert time.process_time() - began < 2


async def test_texts_that_would_take_for_ever_are_not_compared():
    text = "a " * 30_000
    for metric, words in (("rouge_l", text), ("fuzzy_match", text)):
        assert (await graded({**LIKE, "evaluation_metric": metric}, words, item={"answer": words})).score == 1
    meteor = await graded({**LIKE, "evaluation_metric": "meteor"}, text, item={"answer": text})
    long = await graded({**LIKE, "evaluation_metric": "bleu"}, text * 5, item={"answer": text})
    assert [grade.errors.other_error for grade in (meteor, long)] == [True, True]
