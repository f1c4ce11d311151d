import openai
import pytest

from luthier.domain.graders import jail
from tests.contract.objects import BASE

EXACT = {
    "type": "string_check",
    "name": "exact",
    "input": "{{sample.output_text}}",
    "reference": "{{item.answer}}",
    "operation": "eq",
}
NEAR = {**EXACT, "type": "text_similarity", "name": "near", "evaluation_metric": "cosine"}
NEAR.pop("operation")
JUDGE = {
    "type": "score_model",
    "name": "judge",
    "model": BASE,
    "input": [{"role": "user", "content": [{"type": "input_text", "text": "Score {{sample.output_text}}"}]}],
}
OK = {"formula_parse_error": False, "python_grader_runtime_error_details": None, "model_grader_parse_error": False}


def test_a_grader_is_run(client):
    ran = client.fine_tuning.alpha.graders.run(grader=EXACT, item={"answer": "Paris"}, model_sample="Paris")
    assert (ran.reward, ran.metadata.name, ran.metadata.type) == (1.0, "exact", "string_check")
    assert ran.metadata.errors.to_dict().items() >= OK.items()
    assert (ran.metadata.token_usage, ran.metadata.sampled_model_name) == (None, None)
    assert 0 <= ran.metadata.execution_time < 5


def test_several_graders_are_run_as_one(client, http):
    graders = {"same": EXACT, "near": NEAR}
    grader = {"type": "multi", "name": "both", "graders": graders, "calculate_output": "(same + near) / 2"}
    ran = client.fine_tuning.alpha.graders.run(grader=grader, item={"answer": "Paris"}, model_sample="Paris")
    assert ran.reward == pytest.approx(1)
    assert ran.sub_rewards == pytest.approx({"same": 1, "near": 1})
    assert ran.to_dict()["model_grader_token_usage_per_model"][BASE]["prompt_tokens"] == 2
    for several in (graders, [EXACT, NEAR], EXACT):
        document = {**grader, "graders": several, "calculate_output": "string_check_score"}
        answer = http.post("/fine_tuning/alpha/graders/validate", json={"grader": document})
        assert answer.json() == {"grader": document}


def test_a_model_that_scores_out_of_form_is_an_error_of_the_grade(client):
    ran = client.fine_tuning.alpha.graders.run(grader=JUDGE, model_sample="Paris")
    assert (ran.reward, ran.metadata.errors.to_dict()["model_grader_parse_error"]) == (0.0, True)
    assert ran.metadata.sampled_model_name == BASE
    used = ran.to_dict()["model_grader_token_usage_per_model"][BASE]
    assert ran.metadata.token_usage == used["prompt_tokens"] + used["completion_tokens"] > 0


def test_a_model_that_is_not_there_is_an_error_of_the_grade(client):
    ran = client.fine_tuning.alpha.graders.run(grader={**JUDGE, "model": "nobody"}, model_sample="Paris")
    errors = ran.metadata.errors.to_dict()
    assert errors["model_grader_server_error"]
    assert "`nobody` does not exist" in errors["model_grader_server_error_details"]


def test_a_grader_is_validated(client):
    assert client.fine_tuning.alpha.graders.validate(grader=EXACT).grader.to_dict() == EXACT


@pytest.mark.parametrize(
    ("grader", "code", "param"),
    [
        ({**EXACT, "operation": "gt"}, "invalid_value", "grader.operation"),
        ({**EXACT, "input": "{{os}}"}, "invalid_value", None),
        ({**EXACT, "more": 1}, "unknown_parameter", "grader.more"),
        ({"name": "x"}, "missing_required_parameter", "grader.type"),
        (
            {**JUDGE, "input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
            "unsupported_value",
            "grader.input[0].content[0].type",
        ),
        (
            {"type": "multi", "name": "m", "graders": EXACT, "calculate_output": "exact)"},
            "invalid_value",
            "calculate_output",
        ),
    ],
)
def test_what_will_not_do_is_refused_by_name(client, grader, code, param):
    with pytest.raises(openai.BadRequestError) as caught:
        client.fine_tuning.alpha.graders.validate(grader=grader)
    assert (caught.value.code, caught.value.param) == (code, param)


def test_python_without_a_jail_is_refused_with_the_remedy(client, monkeypatch):
    monkeypatch.setattr(jail.shutil, "which", lambda name: None)
    grader = {"type": "python", "name": "p", "source": "def grade(sample, item): return 1.0"}
    with pytest.raises(openai.BadRequestError, match="bubblewrap") as caught:
        client.fine_tuning.alpha.graders.validate(grader=grader)
    assert caught.value.code == "unsupported_value"
