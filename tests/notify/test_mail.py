import email
import email.policy

import pytest

from luthier.core.errors import InvalidRequest
from luthier.core.jobs import NewEvent
from luthier.domain import mail
from luthier.domain.notify import job_finished_items
from luthier.domain.verdicts import tell
from luthier.store import jobs
from tests.notify.conftest import a_job, failed_job, put


def text_of(message, kind):
    return message.get_body(preferencelist=(kind,)).get_content()


def received(mail_server):
    return email.message_from_bytes(mail_server.box.messages[0], policy=email.policy.default)


def test_the_mail_of_a_new_model_arrives(open_here, mail_server, delivering):
    platform = open_here(smtp_url=mail_server.url, mail_to="me@example.com, you@example.com", port=8123)
    job = jobs.create(platform.database, a_job(platform))
    mail_server.box.refusals = 1
    put(platform, job_finished_items(platform, job))
    delivering(platform, lambda: mail_server.box.messages)
    message = received(mail_server)
    assert message["subject"] == "Your fine-tuned model is ready: ft:smollm2-135m-instruct:acme::story"
    assert message["to"] == "me@example.com, you@example.com"
    for kind in ("plain", "html"):
        text = text_of(message, kind)
        assert "ft:smollm2-135m-instruct:acme::story" in text
        assert "12,345 tokens in 1.0 minutes" in text
        assert "http://127.0.0.1:8123/v1/chat/completions" in text


def test_the_python_call_in_the_mail_compiles_and_names_the_model(open_here):
    platform = open_here()
    message = mail.compose(
        a_job(platform),
        {"train_loss": 0.25, "full_valid_loss": 0.5},
        base_url="http://x/v1",
        sender="a@b",
        recipients="c@d",
        message_id="1",
    )
    text = text_of(message, "plain")
    assert "training loss 0.2500, validation loss 0.5000" in text
    call = text.split("Call it in Python:")[1].split("Or with curl:")[0]
    compile(call, "mail", "exec")
    assert 'model="ft:smollm2-135m-instruct:acme::story"' in call


def test_a_verdict_is_mailed_once_it_stands(open_here, mail_server, delivering):
    platform = open_here(smtp_url=mail_server.url, mail_to="me@example.com")
    job = jobs.create(platform.database, a_job(platform))
    for _ in range(2):  # told twice, as after a crash: mailed once
        tell(job, platform, NewEvent("verdict", "Worth it: tuned gets 90 % right."), files=["file-1", "file-2"])
    delivering(platform, lambda: mail_server.box.messages)
    [content] = mail_server.box.messages
    message = email.message_from_bytes(content, policy=email.policy.default)
    assert message["subject"] == "Was it worth it? ft:smollm2-135m-instruct:acme::story"
    assert "Worth it: tuned gets 90 % right." in text_of(message, "plain")
    stored = jobs.get(platform.database, job.project_id, job.id)
    assert (stored.metadata["verdict"], stored.result_files[-2:]) == (
        "Worth it: tuned gets 90 % right.",
        ["file-1", "file-2"],
    )


def test_the_mail_of_a_failure_says_why_and_what_to_do(open_here, mail_server, delivering):
    platform = open_here(smtp_url=mail_server.url, mail_to="me@example.com")
    job = jobs.create(platform.database, failed_job(platform))
    put(platform, job_finished_items(platform, job))
    delivering(platform, lambda: mail_server.box.messages)
    text = text_of(received(mail_server), "plain")
    assert "Training file has 7 example(s)" in text
    assert "training_file: file-story" in text
    assert "Add examples until there are ten" in text


def test_nobody_is_mailed_about_what_they_cancelled_or_without_settings(open_here, mail_server):
    told = open_here(smtp_url=mail_server.url, mail_to="me@example.com")
    assert job_finished_items(told, a_job(told, status="cancelled")) == []
    untold = open_here()
    assert job_finished_items(untold, a_job(untold)) == []


def test_a_wrong_smtp_url_is_named(open_here):
    platform = open_here()
    message = mail.compose(a_job(platform), {}, base_url="http://x/v1", sender="a@b", recipients="c@d", message_id="1")
    with pytest.raises(InvalidRequest, match="smtp_url"):
        mail.send(message, "localhost:25")
