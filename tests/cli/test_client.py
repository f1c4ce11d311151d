import subprocess
import sys

import openai
import pytest

import luthier
from luthier.core.errors import InvalidRequest, JobFailed
from tests.cli.test_examples import EXAMPLES

DATA = EXAMPLES / "misspell.jsonl"


def test_importing_luthier_is_cheap():
    check = "import sys, luthier; print([m for m in ('openai', 'rich', 'typer', 'fastapi') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="upload_files"):
        _ = luthier.upload_files


@pytest.mark.parametrize("progress", [False, True])
def test_a_file_is_uploaded_whole(environment, client, progress):
    uploaded = luthier.upload_file(DATA, progress=progress)
    assert client.files.content(uploaded.id).read() == DATA.read_bytes()
    assert uploaded.filename == "misspell.jsonl"


def test_a_missing_file_is_named():
    with pytest.raises(InvalidRequest, match=r"nowhere\.jsonl: no such file"):
        luthier.upload_file("nowhere.jsonl")


@pytest.mark.parametrize("progress", [False, True])
def test_tuning_waits_for_the_end_and_tells_every_event_once(environment, runs_jobs, capsys, progress):
    runs_jobs()
    told = []
    job = luthier.fine_tune_data(
        DATA, validation=DATA, suffix="mine", n_epochs=2, seed=7, progress=progress, told=told.append
    )
    assert job.fine_tuned_model.startswith("ft:smollm2-135m-instruct:acme:mine:")
    assert (job.seed, job.method.supervised.hyperparameters.n_epochs) == (7, 2)
    assert job.validation_file is not None
    assert len({event.id for event in told}) == len(told)
    assert [event.data["step"] for event in told if event.type == "metrics"] == [1, 2, 3]
    assert told[-1].message == "The job has successfully completed"
    assert ("The job has successfully completed" in capsys.readouterr().out) == progress


def test_a_failed_job_raises_in_its_own_words(environment, runs_jobs):
    file = luthier.upload_file(DATA)
    runs_jobs(JobFailed("Example 3 is odd", code="invalid_training_file", param="training_file"))
    with pytest.raises(JobFailed, match="Example 3 is odd") as failed:
        luthier.fine_tune(file.id)
    assert (failed.value.code, failed.value.param) == ("invalid_training_file", "training_file")


def test_an_outage_is_waited_out(environment, runs_jobs, client, monkeypatch):
    file = luthier.upload_file(DATA, client=client)
    retrieve, failures = client.fine_tuning.jobs.retrieve, iter([True, True])

    def flaky(job_id):
        if next(failures, False):
            raise openai.APIConnectionError(request=None)
        return retrieve(job_id)

    monkeypatch.setattr(client.fine_tuning.jobs, "retrieve", flaky)
    runs_jobs()
    assert luthier.fine_tune(file.id, client=client).status == "succeeded"
    monkeypatch.setattr("luthier.cli.client.OUTAGE_S", 0.0)
    failures = iter([True] * 9)
    with pytest.raises(openai.APIConnectionError):
        luthier.fine_tune(file.id, client=client)
