"""Jobs from their creation to their end: real trainer, tiny model, echo engine."""

import base64
import hashlib
import json
import os
import signal
import time
from dataclasses import replace
from unittest.mock import Mock

import pytest
from anyio.from_thread import start_blocking_portal

from luthier.core.bases import BaseSource
from luthier.core.errors import StoreAway, Unavailable
from luthier.core.outbox import OutboxItem
from luthier.core.run import RunFolder
from luthier.core.verdict.contenders import TooLong
from luthier.domain import retention
from luthier.domain.held import Held
from luthier.domain.publishing import publish as publish_model
from luthier.domain.verdict_trial import EngineAsk, find
from luthier.domain.verdicts import publish
from luthier.store import jobs, outbox
from tests.cli.test_commands import luthier
from tests.conftest import KEY, serving
from tests.patience import PATIENCE_S
from tests.tiny import add_weights, chat_line, make_base

SHA256 = "0" * 64  # what `make_base` says that its base has
CHATS = "\n".join(chat_line(f"question {i}", f"ansir {i % 3}") for i in range(10)).encode()
LINES = [chat_line(f"question {i}", f"ansir {i % 3}") for i in range(200)]
LONG = {"content": "\n".join(LINES).encode(), "epochs": 50, "batch_size": 1}  # minutes: it never has to end
SHORT = {"content": "\n".join(LINES[:70]).encode(), "epochs": 3, "batch_size": 1}  # seconds, and few checkpoints
MORE = "\n".join(chat_line(f"what is {i} times {i + 3}?", f"that is {i * i + 3 * i}") for i in range(16)).encode()
FINAL = {"succeeded", "failed", "cancelled"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    add_weights(make_base(data / "cache/bases" / SHA256))
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr("luthier.domain.sweeping.EVERY_S", 3600)  # what is looked at afterwards stays
    tiny = BaseSource("tiny", "file:/nowhere/m.gguf", SHA256, "Apache-2.0")
    with serving(data, bases={"tiny": tiny}, aliases={"gpt-4o-mini": "tiny"}, teacher="tiny") as running:
        yield running
    monkeypatch.undo()


def upload(client, content=CHATS):
    return client.files.create(file=("chats.jsonl", content), purpose="fine-tune").id


def create(client, *, content=CHATS, epochs=2, batch_size=4, **fields):
    hyperparameters = {"n_epochs": epochs, "batch_size": batch_size}
    method = {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}
    made = client.fine_tuning.jobs.create(
        model="gpt-4o-mini", training_file=upload(client, content), seed=3, method=method, **fields
    )
    assert made.status == "validating_files"
    return made


def until(condition):
    end = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.05)
    return found


def ended(client, job_id):
    def look():
        job = client.fine_tuning.jobs.retrieve(job_id)
        return job if job.status in FINAL else None

    return until(look)


def messages(client, job_id):
    return [e.message for e in reversed(client.fine_tuning.jobs.list_events(job_id, limit=100).data)]


def run_of(server, job_id):
    return RunFolder(server.platform.settings.runs / job_id)


def started(server, job_id):
    """A step is done. Read where its trainer tells it, which is before the runner passes it on."""
    until(lambda: any(event.kind == "metrics" for event, _ in run_of(server, job_id).read_events()))


def trainer_of(server, job_id):
    text = (run_of(server, job_id).path / "lock").read_text()
    return int(text.split()[0]) if text else None


def adapter_of(server, job_id):
    file = run_of(server, job_id).adapter / "adapter_model.safetensors"
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def undisturbed(server):
    """A job that nobody disturbed, two epochs of three steps."""
    return ended(server.client, create(server.client, suffix="My Tone", validation_file=upload(server.client)).id)


def test_a_job_ends_with_a_model_that_answers(server, undisturbed):
    job, client = undisturbed, server.client
    assert (job.status, job.error, job.estimated_finish) == ("succeeded", None, None)
    assert job.model == "tiny"
    assert job.fine_tuned_model == f"ft:tiny:acme:my-tone:{job.id[6:14]}"
    assert job.trained_tokens > 0
    assert job.method.supervised.hyperparameters.learning_rate_multiplier == 1.0
    answer = client.chat.completions.create(model=job.fine_tuned_model, messages=[{"role": "user", "content": "hi"}])
    assert answer.model == job.fine_tuned_model
    assert answer.choices[0].message.content.endswith("hi")
    assert job.fine_tuned_model in [m.id for m in client.models.list()]


def test_it_was_quoted_and_the_quote_held_against_what_it_took(undisturbed):
    quoted, actual = undisturbed.quote["quoted"], undisturbed.quote["actual"]
    assert quoted["trained_tokens"] == actual["trained_tokens"] == undisturbed.trained_tokens
    assert quoted["dollars"] == actual["dollars"] == pytest.approx(3.0 * undisturbed.trained_tokens / 1e6)
    assert min(*quoted.values(), *actual.values()) > 0


def test_its_events_tell_the_story_in_openais_words(server, undisturbed):
    told = messages(server.client, undisturbed.id)
    name = undisturbed.fine_tuned_model
    assert told[:4] == [
        f"Created fine-tuning job: {undisturbed.id}",
        f"Validating training file: {undisturbed.training_file} and validation file: {undisturbed.validation_file}",
        "Receipt of the training file: 10 example(s), 660 tokens, 80 of them trained on",
        "Receipt of the validation file: 10 example(s), 80 tokens to measure on",
    ]
    assert "10 example(s) of the validation file are in the training file too, or nearly" in told[4]
    assert told[5:7] == ["Files validated, moving job to queued state", "Fine-tuning job started"]
    assert told[7].startswith("About ")
    ended = told.index("The job has successfully completed")
    assert told[ended - 1] == f"New fine-tuned model created: {name}"
    assert told[ended - 2].startswith("Quoted ")
    assert not any(m.startswith("Step ") for m in told[ended:])  # the verdict may be there already
    steps = [m for m in told if m.startswith("Step ")]
    assert [m.split(":")[0] for m in steps] == [f"Step {n}/6" for n in range(1, 7)]
    assert "training loss=" in steps[0]
    assert "validation loss=" in steps[0]
    assert f"Checkpoint created at step 3 with Snapshot ID: {name}:ckpt-step-3" in told


def test_a_verdict_follows(server, undisturbed):
    """Its validation file is its training file, so nothing is left to measure on."""
    assert undisturbed.status == "succeeded"
    told = until(lambda: [m for m in messages(server.client, undisturbed.id) if m.startswith("Not measurable: 0 rows")])
    job = server.client.fine_tuning.jobs.retrieve(undisturbed.id)
    assert job.metadata["verdict"] == told[0]
    assert "as 10 others are or nearly" in told[0]
    names = [server.client.files.retrieve(file).filename for file in job.result_files]
    assert names == ["step_metrics.csv", "receipt.jsonl", "verdict.json", "verdict.html"]
    assert [j.id for j in server.client.fine_tuning.jobs.list(metadata={"verdict": told[0]}).data] == [job.id]


def test_a_held_out_share_is_measured_on_and_never_trained_on(server):
    job = create(server.client, content=MORE, metadata={"luthier_held_out": "20%"})
    told = until(lambda: [m for m in messages(server.client, job.id) if m.startswith("Not measurable: 3 rows")])
    assert "hold out 8 or more" in told[0]
    job = server.client.fine_tuning.jobs.retrieve(job.id)
    assert job.validation_file is None
    lines = [json.loads(line) for line in result_file(server.client, job, 1)]
    of = {file: [line["line"] for line in lines if line["file"] == file] for file in ("training", "validation")}
    assert sorted(of["training"] + of["validation"]) == list(range(1, 17))
    assert len(of["validation"]) == 3
    assert job.trained_tokens == 2 * sum(line["tokens"] for line in lines if line["file"] == "training")
    again = create(server.client, content=MORE, metadata={"luthier_held_out": "20%"})
    assert adapter_of(server, ended(server.client, again.id).id) == adapter_of(server, job.id)


def test_a_held_out_line_that_will_not_do_is_the_training_files(server):
    content = MORE.replace(b'"role": "user"', b'"role": "usr"')
    job = ended(server.client, create(server.client, content=content, metadata={"luthier_held_out": "50%"}).id)
    assert (job.error.code, job.error.param) == ("invalid_training_file", "training_file")
    assert "Example 1, message 2" in job.error.message


def test_too_few_are_left_to_train_on(server):
    job = ended(server.client, create(server.client, metadata={"luthier_held_out": "10%"}).id)
    words = "Training file has 10 example(s), 1 of them to be held out, but must have at least 10 to train on"
    assert (job.error.code, job.error.message) == ("invalid_n_examples", words)


HELD_OUT = "\n".join(chat_line(f"another {i}", f"ansir {i % 3}") for i in range(12)).encode()


OURS = ["stock", "prompt", "few-shot", "tuned", "checkpoint"]
MINE = {"mine": "stays", "verdict_prompt": "Say it again."}


@pytest.fixture(scope="module")
def judged(server):
    """A job with a verdict that took two more trainings, on parts of its examples."""
    job = create(server.client, validation_file=upload(server.client, HELD_OUT), metadata=MINE)
    until(lambda: server.client.fine_tuning.jobs.retrieve(job.id).result_files[3:])
    return server.client.fine_tuning.jobs.retrieve(job.id)


def test_a_verdict_asks_everybody_and_trains_on_parts(server, judged):
    found = json.loads("\n".join(result_file(server.client, judged, 2)))
    # The echo engine says the question again, whoever is asked: nobody does better than guessing, on ten examples.
    assert found["kind"] == "more data needed"
    assert [e["contender"] for e in found["comparison"]] == [*OURS, "teacher"]
    assert "The teacher (tiny)" in found["verdict"]
    assert [point["examples"] for point in found["learning_curve"]] == [3, 5, 10]
    assert len(found["rows"]) == 12
    assert judged.metadata == {**MINE, "verdict": found["verdict"]}
    assert "\n".join(result_file(server.client, judged, 3)).startswith("<!doctype html>")


def with_its_data(server, job):
    """The job as it was before its verdict; a sweeper takes its data when that is found."""
    platform = server.platform
    (platform.settings.runs / job.id / "training.jsonl").write_bytes(CHATS)
    (platform.settings.runs / job.id / "validation.jsonl").write_bytes(HELD_OUT)
    return jobs.get(platform.database, platform.project.id, job.id)


def test_a_verdict_begun_again_asks_nothing_twice_and_is_told_once(server, judged, monkeypatch):
    """As after a crash between its last answer and its commit."""
    platform = server.platform
    stored = with_its_data(server, judged)
    monkeypatch.setattr("luthier.domain.verdict_trial.EngineAsk._ask", None)
    publish(stored, platform, find(stored, platform, None, lambda: None))
    assert server.client.fine_tuning.jobs.retrieve(judged.id).result_files == judged.result_files
    assert sum("More data needed" in m for m in messages(server.client, judged.id)) == 1


def test_rows_that_are_too_long_for_the_model_are_left_out(server, judged, monkeypatch):
    platform, known = server.platform, EngineAsk.__call__

    def ask(self, contender, row, *, limit_tokens):
        if row.messages[-1]["content"] == "another 10":  # the first of the longest
            raise TooLong
        if contender.role == "tuned" and row.messages[-1]["content"] == "another 3":
            error = TooLong()
            error.row = row
            raise error
        return known(self, contender, row, limit_tokens=limit_tokens)

    monkeypatch.setattr(EngineAsk, "__call__", ask)
    stored = with_its_data(server, judged)
    with start_blocking_portal() as portal:
        found = find(stored, platform, portal, lambda: None)
    assert (len(found["rows"]), found["unread_rows"]) == (10, 2)


def test_a_verdict_goes_on_without_a_teacher_that_fails(server, judged, monkeypatch):
    """The others' answers are known."""
    platform = server.platform
    monkeypatch.setattr("luthier.domain.verdict_teacher.PAUSES_S", ())
    settings = replace(platform.settings, teacher="big", teacher_url="http://127.0.0.1:9/v1")
    stored = with_its_data(server, judged)
    with start_blocking_portal() as portal:
        found = find(stored, replace(platform, settings=settings), portal, lambda: None)
    assert [e["contender"] for e in found["comparison"]] == OURS
    assert "The teacher was left out: big: http://127.0.0.1:9/v1 cannot be reached" in found["verdict"]


def test_its_data_stays_until_its_verdict_is_found(server, judged):
    platform = server.platform
    run = RunFolder(platform.settings.runs / judged.id)
    data, asked = run.training, run.verdict / "answers.jsonl"
    data.write_bytes(CHATS)
    assert list(run.path.glob("checkpoints/*/state.safetensors"))
    later = int(time.time()) + 3600  # until then nobody claims it
    item = OutboxItem("verdict-later", platform.project.id, "verdict", "", {"job_id": judged.id}, later)
    with platform.database.transaction() as connection:
        outbox.insert_items(connection, [item])
    retention.sweep(platform, set())
    assert data.exists()
    assert asked.exists()
    outbox.delivered(platform.database, item.id, now=later)
    retention.sweep(platform, set())
    assert not data.exists()
    assert not run.verdict.exists()
    assert not list(run.path.glob("checkpoints/*/state.safetensors"))


def test_advice_tunes_on_some_and_leaves_nothing(server, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    until(lambda: all(job.status in FINAL for job in server.client.fine_tuning.jobs.list()))
    file = tmp_path / "chats.jsonl"
    file.write_text("\n".join(chat_line(f"question {i}", f"ansir {i % 3}") for i in range(20)))
    before = {model.id for model in server.client.models.list()}
    printed = luthier("advise", file, "--model", "tiny", "--prompt", "Say it again.").stdout
    assert "More data needed: " in printed
    assert "on 8 rows" in printed
    assert "Tuned on 12 of 20 examples, and deleted again" in printed
    assert {model.id for model in server.client.models.list()} == before


def test_its_checkpoints_answer_too(server, undisturbed):
    checkpoints = server.client.fine_tuning.jobs.checkpoints.list(undisturbed.id).data
    assert [c.step_number for c in checkpoints] == [6, 3]
    assert checkpoints[0].metrics.full_valid_loss > 0
    for checkpoint in checkpoints:
        name = checkpoint.fine_tuned_model_checkpoint
        answer = server.client.chat.completions.create(model=name, messages=[{"role": "user", "content": "hi"}])
        assert answer.choices[0].message.content


def result_file(client, job, number):
    return base64.b64decode(client.files.content(job.result_files[number]).content).decode().splitlines()


def test_its_first_result_file_is_a_table_of_metrics(server, undisturbed):
    table = result_file(server.client, undisturbed, 0)
    assert table[0] == "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy"
    assert [line.split(",")[0] for line in table[1:]] == ["1", "2", "3", "4", "5", "6"]


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (CHATS.split(b"\n", 3)[0], "invalid_n_examples", "Training file has 1 example(s), but must have at least 10"),
        (CHATS.replace(b'"role": "user"', b'"role": "usr"'), "invalid_training_file", "Example 1, message 2"),
        (CHATS.replace(b"assistant", b"user"), "invalid_training_file", "At least one message must be from the assist"),
        (
            CHATS.replace(b'"role": "assistant"', b'"role": "assistant", "weight": 0'),
            "invalid_training_file",
            "No example has a token to learn",
        ),
    ],
)
def test_bad_chats_fail_the_job_and_name_the_line(server, content, code, words):
    job = ended(server.client, create(server.client, content=content).id)
    assert (job.status, job.error.code, job.error.param) == ("failed", code, "training_file")
    assert words in job.error.message
    assert messages(server.client, job.id)[-1] == job.error.message
    assert job.fine_tuned_model is None


def test_a_stopped_and_a_killed_trainer_and_a_pause_change_no_byte(server):
    """Who shuts the machine down stops trainer and server at once: the job goes on, as after a kill."""
    client = server.client
    undisturbed = ended(client, create(client, **SHORT).id)
    job = create(client, **SHORT)
    started(server, job.id)
    os.kill(first := trainer_of(server, job.id), signal.SIGTERM)
    until(lambda: any("was stopped at step" in m for m in messages(client, job.id)))
    until(lambda: trainer_of(server, job.id) not in (first, None))
    os.kill(trainer_of(server, job.id), signal.SIGKILL)
    until(lambda: any("was killed at step" in m for m in messages(client, job.id)))
    client.fine_tuning.jobs.pause(job.id)
    until(lambda: any(m.startswith("Job paused") for m in messages(client, job.id)))
    assert client.fine_tuning.jobs.retrieve(job.id).status == "queued"
    client.fine_tuning.jobs.resume(job.id)
    assert ended(client, job.id).status == "succeeded"
    assert adapter_of(server, job.id) == adapter_of(server, undisturbed.id)


def test_a_cancelled_job_stops_its_trainer(server):
    job = create(server.client, **LONG)
    started(server, job.id)
    trainer = trainer_of(server, job.id)
    assert server.client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    until(lambda: not alive(trainer))
    assert not run_of(server, job.id).adapter.exists()
    assert messages(server.client, job.id)[-1] == "Fine-tuning job cancelled"


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_trainer_that_fails_ends_its_job_with_its_reason(server):
    """The base's weights are gone when the trainer wants them."""
    weights = server.platform.settings.cache / "bases" / SHA256 / "hf/model.safetensors"
    hidden = weights.rename(weights.with_name("hidden"))
    try:
        job = ended(server.client, create(server.client).id)
    finally:
        hidden.rename(weights)
    assert (job.status, job.error.code) == ("failed", "server_error")
    assert job.error.message.startswith("The trainer failed:")


def test_a_database_that_is_away_leaves_no_trainer_to_itself(server, monkeypatch):
    """Whoever claims the job next starts one, and no step is lost."""
    client, away = server.client, []

    def cut(held):
        if not away:
            away.append(trainer_of(server, held.job.id))
            raise StoreAway("the connection was cut")
        return beat(held)

    beat = Held.beat
    job = create(client, **LONG)
    started(server, job.id)
    monkeypatch.setattr("luthier.domain.runner.LEASE_S", 0.5)
    monkeypatch.setattr(Held, "beat", cut)
    until(lambda: away and not alive(away[0]))
    assert not run_of(server, job.id).adapter.exists()
    client.fine_tuning.jobs.cancel(job.id)


def test_a_job_waits_for_an_engine_that_is_started_anew(server, monkeypatch):
    tries = []

    def unable(*given):
        tries.append(given)
        if len(tries) < 3:
            raise Unavailable("the engine does not answer")
        return publish_model(*given)

    monkeypatch.setattr("luthier.domain.held.LEASE_S", 3.0)
    monkeypatch.setattr("luthier.domain.runner.publish", unable)
    job = ended(server.client, create(server.client).id)
    assert (job.status, len(tries)) == ("succeeded", 3)
    assert "The job waits: the engine does not answer. It goes on by itself." in messages(server.client, job.id)


def test_a_job_does_not_wait_for_an_engine_for_ever(server, monkeypatch):
    monkeypatch.setattr("luthier.domain.runner.publish", Mock(side_effect=Unavailable("no engine")))
    monkeypatch.setattr("luthier.domain.runner.ENGINE_TRIES", 0)
    job = ended(server.client, create(server.client).id)
    assert (job.status, job.error.message) == ("failed", "no engine")


@pytest.mark.parametrize("place", ["luthier.domain.validation.write_atomic", "luthier.core.run.RunFolder.raise_fence"])
def test_on_a_full_disk_a_job_waits(server, monkeypatch, place):
    """In either leg; it goes on by itself when there is room."""

    def full(*_):
        raise OSError(28, "No space left on device", "spec.json")

    monkeypatch.setattr("luthier.domain.runner.LEASE_S", 0.5)
    with monkeypatch.context() as patch:
        patch.setattr(place, full)
        job = create(server.client)
        until(lambda: any("the disk is full" in message for message in messages(server.client, job.id)))
    assert ended(server.client, job.id).status == "succeeded"


def test_a_folder_that_cannot_be_written_to_fails_the_job(server, monkeypatch):
    def refused(*_):
        raise PermissionError(13, "Permission denied", "spec.json")

    monkeypatch.setattr("luthier.domain.validation.write_atomic", refused)
    job = ended(server.client, create(server.client).id)
    assert job.status == "failed"
    assert job.error.message == "The job failed: Permission denied (spec.json). Mend the folder, and try again."


def test_the_receipt_tells_of_every_line(server, undisturbed):
    lines = [json.loads(line) for line in result_file(server.client, undisturbed, 1)]
    assert [(line["file"], line["line"]) for line in lines] == [
        (file, line) for file in ("training", "validation") for line in range(1, 11)
    ]
    assert all(line["trained_tokens"] > 0 for line in lines)
    assert [line["leak_of"] for line in lines[10:]] == list(range(1, 11))
