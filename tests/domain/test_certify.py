import asyncio
from pathlib import Path

import pytest

from luthier.core.errors import JobFailed
from luthier.domain.certify import TOLERANCE, compare
from luthier.engines.base import Adapter

ADAPTER = Adapter("model_a", Path("/nowhere"))
PROBE = {
    "body": {"messages": [{"role": "user", "content": "hi"}]},
    "prompt_ids": [1, 2, 3],
    "answer_ids": [7, 8],
    "likeliest": [[7, "x", -0.5], [9, "y", -1.5]],
}


class Engine:
    """Thinks token 7 likeliest at -0.5 after the prompt, then 9 at `second`; remembers the prompts."""

    def __init__(self, second=-1.5, ids=(1, 2, 3), form="ids"):
        self.second, self.ids, self.form, self.asked = second, list(ids), form, []

    async def tokenize(self, body, adapter):
        return self.ids

    async def answer(self, endpoint, body, adapter):
        self.asked.append(body["prompt"])
        token, text, logprob = (7, "x", -0.5) if len(body["prompt"]) == 3 else (9, "y", self.second)
        top = [{"id": token, "token": text, "logprob": logprob}, {"id": 0, "token": "z", "logprob": -9.0}]
        if self.form == "legacy":
            return {"choices": [{"logprobs": {"top_logprobs": [{t["token"]: t["logprob"] for t in top}]}}]}
        if self.form == "none":
            return {"choices": [{"logprobs": None}]}
        return {"choices": [{"logprobs": {"content": [{"top_logprobs": top}]}}]}


def ask(engine):
    return asyncio.run(compare(engine, ADAPTER, [PROBE]))


@pytest.mark.parametrize("form", ["ids", "legacy"])
def test_an_equal_engine_passes_in_either_form(form):
    engine = Engine(second=-1.75, form=form)
    certificate = ask(engine)
    assert (certificate.compared, certificate.largest_difference) == (2, 0.25)
    assert engine.asked == [[1, 2, 3], [1, 2, 3, 7]]


def test_other_log_probabilities_fail_the_job():
    with pytest.raises(JobFailed, match="not applied as it was trained"):
        ask(Engine(second=-1.5 - TOLERANCE - 0.1))


def test_other_tokens_fail_the_job_and_say_where():
    with pytest.raises(JobFailed, match="template or tokenizer differs. First difference at token 1"):
        ask(Engine(ids=(1, 5, 3)))


def test_an_engine_without_log_probabilities_is_not_judged():
    assert ask(Engine(form="none")) is None
