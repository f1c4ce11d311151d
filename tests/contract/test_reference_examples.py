"""The requests of OpenAI's own reference, as they stand there: answered, or refused by the name that this list says.

Their ids become ids of objects made for the purpose, their models are aliases; nothing else is changed but `MENDED`.
"""

import re

import pytest

from luthier.domain import reporting
from tests.api.test_files import JSONL, upload
from tests.conftest import RECORDER, serving
from tests.contract import curl, objects
from tests.contract.objects import BASE
from tests.contract.recorder import DOCUMENT
from tools.compatibility import built

MODELS = (
    *("VAR_chat_model_id", "VAR_completion_model_id", "text-embedding-ada-002"),
    *("gpt-4o-mini", "o4-mini", "gpt-5", "gpt-5-mini", "gpt-5.4", "o3-mini"),
)
# What does not work even at OpenAI, and how it is meant.
MENDED = {
    """"ground_truth":"Technology"}}]}}'""": """"ground_truth":"Technology"}}]}}}'""",
    '"ft-run-display-name"\n': '"ft-run-display-name",\n',
}
REFUSED = {
    "createChatCompletion Image input": "messages[0].content[1].type",
    "createFineTuningJob Reinforcement": "method.type",
    "createResponse Image input": "input[0].content[1].type",
    "createResponse File input": "input[0].content[1].type",
    "createResponse Web search": "tools[0].type",
    "createResponse File search": "tools[0].type",
    "createResponse Reasoning": "reasoning.effort",
    "runGrader Score an image caption": "grader.input[0].content[1].type",
    "runGrader Score an audio response": "grader.input[0].content[1].type",
}


def examples():
    """(name, method, path, command's text) of every example of the operations built."""
    for path, method, operation in built(DOCUMENT):
        given = operation["examples"]
        for example in [given] if isinstance(given, dict) else given:
            name = f"{operation['operationId']} {example.get('title', '')}".strip()
            yield pytest.param(name, method, path, example["request"]["curl"], id=name)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    aliases = dict.fromkeys(MODELS, BASE)
    data = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patched, serving(data, aliases=aliases, background=False) as running:
        patched.setattr(reporting, "find_spec", lambda _name: object())  # as if the extra were installed
        yield running


def test_the_reader_knows_forms_files_and_forgotten_marks():
    command = curl.read('curl https://api.openai.com/v1/files \\\n -F purpose="evals"\n -F file="@a.jsonl" > there')
    assert command == curl.Command("/files", None, [("purpose", (None, b"evals")), ("file", ("a.jsonl", b"a.jsonl"))])
    command = curl.read("""curl -X POST https://api.openai.com/v1/x?a[b]=c&d=1 \\\n -H "A: b" \\\n -d '{"e": "f"}'\n""")
    assert command == curl.Command("/x?a[b]=c&d=1", '{"e": "f"}')


def prepared(server, operation, text):
    """The text with our ids for theirs; what an id stands for is made now, in the state that the operation needs."""
    client = server.client
    if operation == "createBatch":
        text = text.replace("file-abc123", upload(client, b'{"custom_id": "1"}', purpose="batch").id)
    if operation == "completeUpload":
        upload_id = objects.upload(server)
        parts = [client.uploads.parts.create(upload_id, data=half).id for half in (b"{}", b"\n\n")]
        return (
            text.replace("upload_abc123", upload_id).replace("part_def456", parts[0]).replace("part_ghi789", parts[1])
        )
    if operation == "deleteFineTuningCheckpointPermission":
        model = objects.tuned(server)
        grants = client.fine_tuning.checkpoints.permissions
        [grant] = grants.create(model, project_ids=[server.platform.project.id])
        return re.sub(r"permissions/cp_\w+", f"permissions/{grant.id}", re.sub(r"ft:[\w:.-]+", model, text))
    if "project-api-key" in operation:
        project = objects.project(server)
        return text.replace("proj_abc", project).replace("key_abc", objects.key(server, project))
    if "/evals/" in text:
        eval_id = objects.tested(server)
        run_id = objects.eval_run(server, eval_id) if "/runs/" in text else ""
        item_id = objects.output_item(server, eval_id, run_id) if "/output_items/" in text else ""
        text = re.sub(r"\bouputitem_\w+|\boutputitem_\w+", item_id, text)
        text = re.sub(r"\b(?:evalrun|erun)_\w+", run_id, text)
        text = re.sub(r"\b(?:eval|egroup)_\w+", eval_id, text)
    makers = {
        r"file-[A-Za-z0-9]+": objects.file,
        r"ftjob-abc123|ft-AF1\w+": objects.job,
        r"chat_abc123|chatcmpl-abc123": objects.chat,
        r"ft:[\w:.-]+": objects.tuned,
        r"proj_\w+": objects.project if "organization" in text else lambda server: server.platform.project.id,
        r"key_abc": objects.admin_key,
        r"batch_abc123": objects.batch,
        r"upload_abc123": objects.upload,
        r"resp_\w+": objects.background if operation == "cancelResponse" else objects.response,
    }
    for pattern, make in makers.items():
        if re.search(pattern, text):
            text = re.sub(pattern, make(server), text)
    return text


def send(http, method, command):
    form = [(name, (file, JSONL if file else content)) for name, (file, content) in command.form]
    return http.request(method, command.path, content=command.body, files=form or None)


@pytest.mark.parametrize(("name", "method", "path", "text"), list(examples()))
def test_a_request_of_the_reference(server, name, method, path, text):
    for wrong, meant in MENDED.items():
        text = text.replace(wrong, meant)
    violations = len(RECORDER.violations)
    answer = send(server.http, method, curl.read(prepared(server, name.split(" ")[0], text)))
    if name in REFUSED:
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (400, "unsupported_value", REFUSED[name])
    else:
        assert answer.status_code in (200, 201), answer.text
    assert RECORDER.violations[violations:] == []


def test_every_refusal_is_of_an_example():
    assert set(REFUSED) <= {example.values[0] for example in examples()}
