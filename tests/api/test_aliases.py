"""Names that move between models, by the official client and by our own operations."""

import threading

import openai
import pytest

from luthier.core.bases import BaseSource
from tests.conftest import serving
from tests.contract.objects import BASE, HELLO

OLD = "ft:gpt-4o-mini-2024-07-18:acme::abc123"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    other = BaseSource("other", "file:/nowhere/m.gguf", "1" * 64, "MIT")
    data = tmp_path_factory.mktemp("data")
    with serving(data, background=False, bases={"other": other}, aliases={"gpt-4o": BASE}) as running:
        yield running


def move(http, name, model):
    made = http.post("/model_aliases", json={"name": name, "model": model})
    assert made.status_code == 200, made.text
    return made.json()


def answers(client, name):
    return client.chat.completions.create(model=name, messages=HELLO).model


def test_code_keeps_the_name_that_it_had_elsewhere(client, http):
    assert move(http, OLD, BASE)["model"] == BASE
    assert answers(client, OLD) == BASE
    assert OLD in [model.id for model in client.models.list()]
    assert client.models.retrieve(OLD).id == OLD
    with pytest.raises(openai.PermissionDeniedError, match="alias"):
        client.models.delete(OLD)


def test_it_moves_and_goes_back_and_remembers(client, http):
    for model in (BASE, "other"):
        move(http, "tone", model)
    assert answers(client, "tone") == "other"
    assert http.post("/model_aliases/tone/rollback").json()["model"] == BASE
    assert answers(client, "tone") == BASE
    history = http.get("/model_aliases/tone/history").json()["data"]
    assert [(a["model"], a["api_key_id"][:4]) for a in history] == [(BASE, "key_"), ("other", "key_"), (BASE, "key_")]
    assert http.delete("/model_aliases/tone").json()["deleted"]
    assert "tone" not in [a["name"] for a in http.get("/model_aliases").json()["data"]]
    with pytest.raises(openai.NotFoundError):
        answers(client, "tone")
    assert http.delete("/model_aliases/tone").status_code == 404
    move(http, "tone", "other")
    assert http.post("/model_aliases/tone/rollback").json()["model"] == BASE  # what it was before it was nothing


def test_it_moves_under_those_who_call_it(client, http):
    move(http, "busy", BASE)
    done, seen, failed = threading.Event(), set(), []

    def call():
        while not done.is_set():
            try:
                seen.add(answers(client, "busy"))
            except openai.OpenAIError as error:
                failed.append(error)

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for model in ("other", BASE) * 10:
        move(http, "busy", model)
    done.set()
    for caller in callers:
        caller.join()
    assert (failed, seen) == ([], {BASE, "other"})


def test_the_settings_aliases_can_be_moved_too(client, http):
    assert answers(client, "gpt-4o") == BASE
    move(http, "gpt-4o", "other")
    assert answers(client, "gpt-4o") == "other"
    http.delete("/model_aliases/gpt-4o")
    assert answers(client, "gpt-4o") == BASE


def test_what_cannot_be_is_refused(http):
    assert "own name" in http.post("/model_aliases", json={"name": "other", "model": BASE}).json()["error"]["message"]
    assert http.post("/model_aliases", json={"name": "x", "model": "nothing"}).status_code == 404
    assert http.post("/model_aliases/x/rollback").status_code == 404
    move(http, "once", BASE)
    assert "nothing to go back" in http.post("/model_aliases/once/rollback").json()["error"]["message"]
