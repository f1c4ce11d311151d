import openai
import pytest

from luthier.core.jobs import JobError, NewEvent
from luthier.core.lists import PageQuery
from luthier.domain import reporting
from luthier.store import jobs, outbox
from tests.api.test_files import JSONL, upload
from tests.conftest import serving

BASE = "smollm2-135m-instruct"
ALIAS = "gpt-4o-mini-2024-07-18"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("data"), aliases={ALIAS: BASE}, background=False) as running:
        yield running


@pytest.fixture(scope="module")
def training_file(server):
    return upload(server.client).id


def create(client, training_file, **more):
    return client.fine_tuning.jobs.create(**{"model": BASE, "training_file": training_file, **more})


def test_create_and_retrieve(client, training_file):
    job = create(client, training_file, suffix="My Suffix", seed=7, metadata={"team": "a"})
    assert job.id.startswith("ftjob-")
    assert (job.status, job.model, job.seed, job.metadata) == ("validating_files", BASE, 7, {"team": "a"})
    assert (job.error, job.fine_tuned_model, job.finished_at, job.trained_tokens) == (None, None, None, None)
    assert job.hyperparameters.to_dict() == {
        "batch_size": "auto",
        "learning_rate_multiplier": "auto",
        "n_epochs": "auto",
    }
    assert job.method.type == "supervised"
    assert job.method.supervised.hyperparameters.n_epochs == "auto"
    assert job.organization_id.startswith("org-")
    assert client.fine_tuning.jobs.retrieve(job.id) == job


def test_the_first_events(client, training_file):
    validation = upload(client).id
    job = create(client, training_file, validation_file=validation)
    said = [event.message for event in client.fine_tuning.jobs.list_events(job.id)]
    assert said == [
        f"Validating training file: {training_file} and validation file: {validation}",
        f"Created fine-tuning job: {job.id}",
    ]


def test_an_alias_is_resolved(client, training_file):
    assert create(client, training_file, model=ALIAS).model == BASE


@pytest.mark.parametrize("installed", [True, False])
def test_wandb_is_an_extra(client, training_file, monkeypatch, installed):
    monkeypatch.setattr(reporting, "find_spec", lambda _name: object() if installed else None)
    asked = [{"type": "wandb", "wandb": {"project": "p", "tags": ["a"]}}]
    if installed:
        [kept] = create(client, training_file, integrations=asked).integrations
        assert (kept.type, kept.wandb.project, kept.wandb.name, kept.wandb.tags) == ("wandb", "p", None, ["a"])
    else:
        with pytest.raises(openai.BadRequestError, match="pip install wandb") as refused:
            create(client, training_file, integrations=asked)
        assert (refused.value.code, refused.value.param) == ("unsupported_value", "integrations")


def test_a_seed_is_drawn(client, training_file):
    first, second = create(client, training_file), create(client, training_file)
    assert 0 <= first.seed < 1 << 31
    assert first.seed != second.seed


def test_hyperparameters_in_either_place(client, training_file):
    older = create(client, training_file, hyperparameters={"n_epochs": 3, "batch_size": 2})
    assert (older.hyperparameters.n_epochs, older.hyperparameters.batch_size) == (3, 2)
    assert older.method.supervised.hyperparameters.n_epochs == 3
    method = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2, "learning_rate_multiplier": 2}}}
    newer = create(client, training_file, method=method)
    assert newer.method.dpo.hyperparameters.to_dict() == {
        "beta": 0.2,
        "batch_size": "auto",
        "learning_rate_multiplier": 2,
        "n_epochs": "auto",
    }
    assert newer.method.supervised is None
    assert newer.hyperparameters.learning_rate_multiplier == 2
    both = create(client, training_file, method={"type": "dpo"}, hyperparameters={"n_epochs": 2})
    assert both.method.dpo.hyperparameters.n_epochs == 2
    assert both.method.dpo.hyperparameters.beta == "auto"


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"model": None}, "invalid_type", "model"),
        ({"training_file": "file-none"}, "invalid_value", "training_file"),
        ({"validation_file": "file-none"}, "invalid_value", "validation_file"),
        ({"suffix": ""}, "empty_string", "suffix"),
        ({"suffix": "x" * 65}, "string_above_max_length", "suffix"),
        ({"suffix": 5}, "invalid_type", "suffix"),
        ({"seed": -1}, "integer_below_min_value", "seed"),
        ({"seed": 1 << 31}, "integer_above_max_value", "seed"),
        ({"seed": True}, "invalid_type", "seed"),
        ({"metadata": {"tags": ["a"]}}, "invalid_type", "metadata.tags"),
        ({"metadata": {"a": "x" * 513}}, "string_above_max_length", "metadata.a"),
        ({"metadata": {str(n): "" for n in range(17)}}, "object_above_max_length", "metadata"),
        ({"n_epochs": 3}, "unknown_parameter", "n_epochs"),
        ({"hyperparameters": {"n_epochs": 0}}, "integer_below_min_value", "hyperparameters.n_epochs"),
        ({"hyperparameters": {"n_epochs": 51}}, "integer_above_max_value", "hyperparameters.n_epochs"),
        ({"hyperparameters": {"n_epochs": "many"}}, "invalid_type", "hyperparameters.n_epochs"),
        ({"hyperparameters": {"learning_rate_multiplier": 0}}, None, "hyperparameters.learning_rate_multiplier"),
        ({"hyperparameters": {"beta": 0.1}}, "unknown_parameter", "hyperparameters.beta"),
        ({"method": {}}, "missing_required_parameter", "method.type"),
        ({"method": {"type": "ppo"}}, "invalid_value", "method.type"),
        ({"method": {"type": "reinforcement", "reinforcement": {}}}, "unsupported_value", "method.type"),
        ({"method": {"type": "supervised", "reinforcement": {}}}, "unsupported_value", "method.reinforcement"),
        ({"method": {"type": "supervised", "dpo": {}}}, "invalid_value", "method.dpo"),
        ({"method": {"type": "dpo", "supervised": {}}}, "invalid_value", "method.supervised"),
        (
            {"method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 3}}}},
            "decimal_above_max_value",
            "method.dpo.hyperparameters.beta",
        ),
        (
            {
                "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
                "hyperparameters": {"n_epochs": 3},
            },
            "invalid_value",
            "hyperparameters.n_epochs",
        ),
        ({"integrations": [{"type": "wandb"}]}, "missing_required_parameter", "integrations[0].wandb"),
        ({"integrations": [{"type": "wandb", "wandb": {}}]}, None, "integrations[0].wandb.project"),
        ({"integrations": [{"type": "mlflow"}]}, None, None),
    ],
)
def test_wrong_fields_are_named(server, training_file, change, code, param):
    body = {"model": BASE, "training_file": training_file, **change}
    answer = server.http.post("/fine_tuning/jobs", json=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["code"] == code or code is None
    assert error["param"] == param or param is None


def test_words_of_common_errors(server, training_file):
    def message(body):
        return server.http.post("/fine_tuning/jobs", json=body).json()["error"]["message"]

    assert message({"model": BASE}) == "Missing required parameter: 'training_file'."
    body = {"model": BASE, "training_file": training_file}
    assert (
        message({**body, "metadata": {"tags": ["a"]}})
        == "Invalid type for 'metadata.tags': expected a string, but got an array instead."
    )
    assert message({**body, "colour": 1}) == "Unknown parameter: 'colour'."
    assert (
        message({**body, "hyperparameters": {"n_epochs": "many"}}) == "Invalid type for 'hyperparameters.n_epochs': "
        "expected one of 'auto' or an integer, but got a string instead."
    )


def test_an_unknown_model_is_404(client, training_file):
    for name in ("gpt-9", "ft:smollm2-135m-instruct:acme::none"):
        with pytest.raises(openai.NotFoundError) as caught:
            create(client, training_file, model=name)
        assert caught.value.code == "model_not_found"


def test_a_file_of_another_purpose_is_refused(client):
    with pytest.raises(openai.BadRequestError, match="purpose 'batch'"):
        create(client, upload(client, purpose="batch").id)


def test_unknown_jobs_are_404(server):
    for method, path in (
        ("GET", ""),
        ("POST", "/cancel"),
        ("POST", "/pause"),
        ("POST", "/resume"),
        ("GET", "/events"),
        ("GET", "/checkpoints"),
    ):
        answer = server.http.request(method, f"/fine_tuning/jobs/ftjob-none{path}")
        assert answer.status_code == 404, path
        assert answer.json()["error"]["code"] == "fine_tune_not_found"


@pytest.mark.parametrize("given", ["11", "-11", "high", "1.5", "", "+1"])
def test_a_priority_that_is_none_is_refused_by_name(client, training_file, given):
    with pytest.raises(openai.BadRequestError, match="from -10 to 10") as refused:
        create(client, training_file, metadata={"luthier_priority": given})
    assert (refused.value.code, refused.value.param) == ("invalid_value", "metadata.luthier_priority")


@pytest.mark.parametrize("given", ["0%", "51%", "0.2", "20", "", "20 %"])
def test_a_held_out_share_that_is_none_is_refused_by_name(client, training_file, given):
    with pytest.raises(openai.BadRequestError, match="from '1%' to '50%'") as refused:
        create(client, training_file, metadata={"luthier_held_out": given})
    assert (refused.value.code, refused.value.param) == ("invalid_value", "metadata.luthier_held_out")


def test_a_held_out_share_beside_a_validation_file_is_refused(client, training_file):
    with pytest.raises(openai.BadRequestError, match="cannot be given with 'validation_file'"):
        create(client, training_file, validation_file=training_file, metadata={"luthier_held_out": "20%"})


def test_a_priority_is_kept(server, training_file):
    job = create(server.client, training_file, metadata={"luthier_priority": "-10"})
    assert job.metadata == {"luthier_priority": "-10"}
    assert jobs.get(server.platform.database, server.platform.project.id, job.id).priority == -10


def test_cancel(server, training_file):
    client = server.client
    job = create(client, training_file)
    cancelled = client.fine_tuning.jobs.cancel(job.id)
    assert (cancelled.status, cancelled.finished_at is not None) == ("cancelled", True)
    assert client.fine_tuning.jobs.cancel(job.id) == cancelled
    with pytest.raises(openai.BadRequestError, match="already been cancelled"):
        client.fine_tuning.jobs.pause(job.id)
    events = client.fine_tuning.jobs.list_events(job.id, limit=1)
    assert events.data[0].message == "Fine-tuning job cancelled"


def test_a_failed_job_says_why_and_cannot_be_cancelled(server, training_file):
    client, database = server.client, server.platform.database
    job = create(client, training_file)
    while (held := jobs.claim(database, "me", ["validating_files"], now=database.now(), lease_s=30)).id != job.id:
        pass
    error = JobError("invalid_n_examples", "Training file has 7 example(s)", "training_file")
    jobs.transition(database, job.id, held.fence, "validating_files", "failed", now=database.now(), error=error)
    failed = client.fine_tuning.jobs.retrieve(job.id)
    assert failed.status == "failed"
    assert failed.error.to_dict() == {"code": error.code, "message": error.message, "param": error.param}
    with pytest.raises(openai.BadRequestError, match="already failed"):
        client.fine_tuning.jobs.cancel(job.id)


def test_pause_and_resume_keep_the_status(client, training_file):
    job = create(client, training_file)
    paused = client.fine_tuning.jobs.pause(job.id)
    assert paused.status == "validating_files"
    assert client.fine_tuning.jobs.pause(job.id) == paused
    assert client.fine_tuning.jobs.resume(job.id).status == "validating_files"
    said = [event.message for event in client.fine_tuning.jobs.list_events(job.id)][:2]
    assert said[0] == "Job resumed"
    assert said[1].startswith("Pause requested")


def test_lists(tmp_path):
    with serving(tmp_path, background=False) as server:
        client = server.client
        file = upload(client).id
        made = [create(client, file, metadata={"n": str(n % 2), "all": "x"}).id for n in range(5)]
        plain = create(client, file).id
        assert [job.id for job in client.fine_tuning.jobs.list(limit=2)] == [plain, *made[::-1]]
        assert [j.id for j in client.fine_tuning.jobs.list(metadata={"n": "1"}, limit=1)] == made[1::2][::-1]
        both = client.fine_tuning.jobs.list(metadata={"n": "0", "all": "x"}, limit=1)
        assert [job.id for job in both] == made[::2][::-1]
        assert client.fine_tuning.jobs.list(metadata={"n": "0", "all": "y"}).data == []
        assert [j["id"] for j in server.http.get("/fine_tuning/jobs?metadata=null").json()["data"]] == [plain]
        assert server.http.get("/fine_tuning/jobs?metadata=x").status_code == 400
        assert server.http.get("/fine_tuning/jobs?order=asc").json()["error"]["code"] == "unknown_parameter"
        assert server.http.get("/fine_tuning/jobs?after=ftjob-none").json()["error"]["param"] == "after"


def test_events_page_by_their_ids(server, training_file):
    database = server.platform.database
    job = create(server.client, training_file)
    while (held := jobs.claim(database, "me", ["validating_files"], now=database.now(), lease_s=30)).id != job.id:
        pass
    said = [NewEvent(f"step-{n}", f"Step {n}", type="metrics", data={"step": n}) for n in range(50)]
    assert jobs.change(database, job.id, held.fence, said=said, now=database.now())
    events = list(server.client.fine_tuning.jobs.list_events(job.id, limit=7))
    assert [event.message for event in events[:50]] == [f"Step {n}" for n in reversed(range(50))]
    assert events[0].data == {"step": 49}
    assert events[0].type == "metrics"


def test_a_cancelled_job_tells_its_webhooks(server, training_file):
    database = server.platform.database
    endpoint = {"name": "n", "url": "https://example.com/hook", "event_types": ["fine_tuning.job.cancelled"]}
    assert server.http.post("/webhook_endpoints", json=endpoint).status_code == 200
    job = create(server.client, training_file)
    server.client.fine_tuning.jobs.cancel(job.id)
    claimed = outbox.claim(database, "webhook", "mail", now=database.now() + 1, lease_s=1, limit=100)
    assert job.id in str([one.payload for one in claimed])


def test_other_projects_see_nothing(server, training_file):
    database = server.platform.database
    job = create(server.client, training_file)
    assert jobs.get(database, "proj_other", job.id) is None
    assert jobs.list_page(database, "proj_other", PageQuery()).items == []
    assert jobs.request_cancel(database, "proj_other", job.id, now=1) is None


def test_the_same_bytes_may_serve_twice(client):
    first, second = upload(client, JSONL), upload(client, JSONL)
    assert first.id != second.id
    assert create(client, first.id, validation_file=second.id).validation_file == second.id
