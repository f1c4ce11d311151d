"""Commands that ask what a server serves: `chat`, `compare`, `models alias`; and `webhooks test`."""

import json

import pytest

from luthier.core.models import TunedModel
from luthier.store import models
from tests.cli.test_commands import DATA, failing, job, luthier  # noqa: F401  # the first job's fixture
from tests.conftest import serving
from tests.contract.objects import BASE
from tests.notify.conftest import receiver  # noqa: F401


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("data"), background=False, webhook_private_hosts=True) as running:
        yield running


@pytest.fixture
def tuned(server, job):  # noqa: F811
    """The name of a model that a job made; the echo says its id before each answer."""
    platform, name = server.platform, job.fine_tuned_model
    sha256 = platform.bases.source(BASE).sha256
    row = TunedModel(f"m-{job.id}", name, platform.project.id, job.id, BASE, sha256, f"{job.id}/adapter", 1)
    with platform.database.transaction() as connection:
        models.add(connection, row)
    return name


def test_a_question_is_answered_and_a_conversation_until_the_input_ends(environment):
    assert luthier("chat", BASE, "What is the capital?", "--system", "S").stdout == "What is the capital?\n"
    done = luthier("chat", BASE, input="one two\n\n[bold]three[/]\n")
    assert done.stdout == "one two\n[bold]three[/]\n\n"
    assert "Ctrl-D" in done.stderr
    assert "nobody" in failing("chat", "nobody", "hi")


def test_a_model_is_compared_with_its_base_on_rows_of_ones_own(tuned, tmp_path):
    rows = tmp_path / "held-out.jsonl"
    chats = [[{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": f"q{n}"}] for n in range(12)]
    rows.write_text("\n".join(json.dumps({"messages": messages}) for messages in chats))
    done = luthier("compare", tuned, "--prompts", rows, "--prompt", "Say it again.", "--out", tmp_path / "verdict")
    assert all(role in done.stdout for role in ("stock", "prompt", "few-shot", "tuned"))
    assert "The prompt is enough: " in done.stdout
    found = json.loads((tmp_path / "verdict.json").read_text())
    assert len(found["rows"]) == 12
    assert tuned in (tmp_path / "verdict.html").read_text()


def test_no_verdict_stands_on_a_job_without_held_out_rows(tuned):
    assert "it had no validation file" in failing("compare", tuned)
    assert "luthier jobs list" in failing("compare", "ft:nobody")


def test_an_alias_moves_and_goes_back(tuned, job):  # noqa: F811
    assert luthier("models", "alias", "support", BASE).stdout == f"support is {BASE}\n"
    assert luthier("models", "alias", "support", tuned).stdout == f"support is {tuned}\n"
    assert luthier("chat", "support", "hi").stdout == f"m-{job.id} hi\n"
    listed = luthier("models", "alias").stdout
    assert "support" in listed
    assert tuned in listed
    history = luthier("models", "alias", "support").stdout
    assert history.index(tuned) < history.index(f"{BASE} ")
    assert luthier("models", "alias", "support", "--rollback").stdout == f"support is {BASE}\n"
    assert luthier("models", "alias", "support", "--remove").stdout == "support removed\n"
    assert "support" not in luthier("models", "alias").stdout


def test_an_endpoint_is_sent_a_sample(environment, receiver):  # noqa: F811
    receiver.statuses = [204]
    made = luthier("webhooks", "create", receiver.url).stdout
    endpoint, secret = made.split("\nOPENAI_WEBHOOK_SECRET=")
    printed = luthier("webhooks", "test", endpoint).stdout
    assert printed == "fine_tuning.job.succeeded: the receiver answered 204\n"
    [(headers, body)] = receiver.got
    assert json.loads(body)["type"] == "fine_tuning.job.succeeded"
    assert headers["webhook-signature"].startswith("v1,")
    assert secret.startswith("whsec_")
