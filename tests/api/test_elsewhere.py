"""A base that a server elsewhere answers for: here another one of ours."""

import openai
import pytest

from luthier.core.bases import BaseSource
from tests.conftest import KEY, serving
from tests.tiny import chat_line

MODEL = "smollm2-135m-instruct"
HELLO = [{"role": "user", "content": "hello there"}]


@pytest.fixture(scope="module")
def near(server, tmp_path_factory):
    far = BaseSource("big", f"openai:{server.url}#{MODEL}", "", "unknown")
    with serving(tmp_path_factory.mktemp("near"), bases={"big": far}, engine_api_key=KEY) as running:
        yield running


def test_it_is_called_like_any_other(near):
    assert "big" in [model.id for model in near.client.models.list()]
    whole = near.client.chat.completions.create(model="big", messages=HELLO)
    assert (whole.model, whole.choices[0].message.content, whole.usage.total_tokens) == ("big", "hello there", 4)
    pieces = near.client.chat.completions.create(model="big", messages=HELLO, stream=True)
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices) == "hello there"
    assert near.client.completions.create(model="big", prompt="a b").choices[0].text == "a b"
    assert len(near.client.embeddings.create(model="big", input=["a", "b"], encoding_format="float").data) == 2
    assert near.client.responses.create(model="big", input="hello there").output_text == "hello there"


def test_it_cannot_be_tuned(near):
    file = near.client.files.create(file=("a.jsonl", "\n".join([chat_line("q", "a")] * 10)), purpose="fine-tune")
    with pytest.raises(openai.BadRequestError, match="cannot be tuned here") as refused:
        near.client.fine_tuning.jobs.create(model="big", training_file=file.id)
    assert refused.value.param == "model"
