import socket

import pytest
from typer.testing import CliRunner

from luthier.cli.main import app
from tests.cli.test_examples import EXAMPLES
from tests.contract import objects

DATA = EXAMPLES / "misspell.jsonl"


def luthier(*words, succeeds=True, **options):
    done = CliRunner().invoke(app, [str(word) for word in words], **options)
    assert (done.exit_code == 0) == succeeds, done.output
    return done


def failing(*words, **options):
    """The one line that a failing command leaves on the error stream."""
    done = luthier(*words, succeeds=False, **options)
    assert done.exit_code == 1
    lines = [line for line in done.stderr.splitlines() if not line.startswith("server: ")]
    assert len(lines) == 1, done.output
    return lines[0]


@pytest.fixture
def job(environment, runs_jobs, client):
    runs_jobs()
    file = client.files.create(file=DATA, purpose="fine-tune")
    created = luthier("jobs", "create", file.id, "--suffix", "mine", "--wait")
    model = created.stdout.splitlines()[-1]
    assert model.startswith("ft:smollm2-135m-instruct:acme:mine:")
    return client.fine_tuning.jobs.list().data[0]


def test_a_wrong_file_is_one_line(environment, tmp_path):
    assert failing("tune", tmp_path / "nowhere.jsonl") == f"error: {tmp_path}/nowhere.jsonl: no such file"
    bad = tmp_path / "bad.jsonl"
    bad.write_text("no json\n")
    assert "Line 1: " in failing("upload", bad)


def test_an_unreachable_server_is_one_line(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{port}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    assert "luthier serve" in failing("jobs", "list")


def test_a_wrong_key_is_one_line(environment, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-wrong-wrong")
    assert "127.0.0.1 refuses the API key: Incorrect API key provided" in failing("jobs", "list")


def test_no_server_ever_is_one_line(monkeypatch, tmp_path):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("LUTHIER_DATA", str(tmp_path))
    assert "luthier serve" in failing("jobs", "list")


def test_an_unknown_model_or_job_is_one_line(environment):
    assert "nothing" in failing("tune", DATA, "--model", "nothing")
    assert "ftjob-none" in failing("jobs", "show", "ftjob-none")
    assert "--method" in failing("tune", DATA, "--method", "magic")


def test_upload_prints_the_id_alone(environment, client):
    done = luthier("upload", DATA)
    file_id = done.stdout.strip()
    assert client.files.retrieve(file_id).bytes == DATA.stat().st_size
    assert f"luthier jobs create {file_id}" in done.stderr


def test_tune_ends_with_the_name_and_a_call_to_paste(environment, runs_jobs):
    runs_jobs()
    printed = luthier("tune", DATA, "--suffix", "mine", "--epochs", "2", "--seed", "5").stdout
    assert "Your model: ft:smollm2-135m-instruct:acme:mine:" in printed
    call = printed.split("or in Python:")[1]
    compile("\n".join(line[2:] for line in call.splitlines()), "pasted", "exec")
    assert "misspell all words" in call


def test_tune_hands_a_prompt_to_the_verdict(environment, runs_jobs, client):
    runs_jobs()
    luthier("tune", DATA, "--validation", DATA, "--prompt", "Misspell.")
    assert client.fine_tuning.jobs.list().data[0].metadata == {"verdict_prompt": "Misspell."}
    assert "give --validation or --held-out too" in failing("tune", DATA, "--prompt", "Misspell.")


def test_jobs_are_listed_and_shown(job):
    listed = luthier("jobs", "list").stdout
    assert job.id in listed
    shown = luthier("jobs", "show", job.id).stdout
    assert job.fine_tuned_model in shown
    assert "1,000,000" in shown


def test_events_are_printed_oldest_first(job):
    lines = luthier("jobs", "events", job.id).stdout.splitlines()
    assert "Created fine-tuning job" in lines[0]
    assert "successfully completed" in lines[-1]
    assert luthier("jobs", "events", job.id, "--follow").stdout.splitlines() == lines


def test_a_job_is_cancelled(environment, client):
    file = client.files.create(file=DATA, purpose="fine-tune")
    created = luthier("jobs", "create", file.id)
    job_id = created.stdout.strip()
    assert luthier("jobs", "cancel", job_id).stdout.strip() == f"{job_id} cancelled"


def test_cost_adds_up_what_was_trained(job):
    printed = luthier("cost").stdout
    assert "3.0000" in printed  # a million trained tokens at 3 dollars
    assert "gpt-3.5-turbo tuned" in printed


def test_models_are_listed_shown_and_deleted(job):
    assert "smollm2-135m-instruct" in luthier("models", "list").stdout
    assert "smollm2-135m-instruct" in luthier("models", "show", "smollm2-135m-instruct").stdout
    assert "nothing" in failing("models", "delete", "nothing")


def test_webhook_endpoints_come_and_go(server, environment, monkeypatch):
    assert "https://" in failing("webhooks", "create", "http://example.com/hook")
    made = luthier("webhooks", "create", "https://example.com/hook", "--name", "story").stdout
    endpoint = made.splitlines()[0]
    assert "OPENAI_WEBHOOK_SECRET=whsec_" in made
    assert endpoint in luthier("webhooks", "list").stdout
    luthier("webhooks", "delete", endpoint)
    assert endpoint not in luthier("webhooks", "list").stdout


def test_deliveries_are_shown_and_sent_again(server, environment):
    delivery = objects.delivery(server)
    (endpoint,) = (e.id for e in server.client.webhooks.list(limit=1).data)
    shown = luthier("webhooks", "deliveries", "--endpoint", endpoint).stdout
    assert all(word in shown for word in (delivery, "batch.completed", "pending"))
    assert endpoint in luthier("webhooks", "resend", delivery).stdout
    assert "wh_nobody" in failing("webhooks", "resend", "wh_nobody")


def test_every_command_has_help():
    for words in ((), ("serve",), ("demo",), ("tune",), ("chat",), ("compare",), ("jobs",), ("models", "pull")):
        assert "Usage:" in luthier(*words, "--help").stdout
