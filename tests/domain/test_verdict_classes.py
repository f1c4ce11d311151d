"""Each verdict, reached by a data set made for it: real model, real training, real answers. `make test-verdict`."""

import json
import time

import pytest

from luthier.cli.compare import content_of
from luthier.core.settings import Settings
from tests.conftest import serving
from tests.domain.verdict_sets import random_labels, sorted_words

pytestmark = pytest.mark.slow
BASE = Settings.default_base
ROWS = 16
WORDS = "rain snow wind fire gold iron salt sugar bread milk tea coffee paper glass music sleep math time money law"
QUESTIONS = WORDS.split()


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    cache = Settings.cache.expanduser()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("luthier.domain.verdict_trial.BUDGET_S", 600.0)  # all rows, however busy the machine is
        with serving(tmp_path_factory.mktemp("data"), cache=cache, engine="llamacpp") as running:
            yield running.client


def verdict(client, training, held_out, *, epochs=10, batch_size=30):
    """What a job on this data comes to, and the seconds from its end to the verdict."""
    files = [
        client.files.create(file=("chats.jsonl", "\n".join(lines).encode()), purpose="fine-tune").id
        for lines in (training, held_out)
    ]
    hyperparameters = {"n_epochs": epochs, "batch_size": batch_size}
    job = client.fine_tuning.jobs.create(
        model=BASE,
        training_file=files[0],
        validation_file=files[1],
        seed=1,
        method={"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
    )
    while len(job.result_files) < 4:
        assert job.status not in {"failed", "cancelled"}, job.error
        time.sleep(1)
        job = client.fine_tuning.jobs.retrieve(job.id)
    told = client.fine_tuning.jobs.list_events(job.id, limit=1).data[0]
    found = json.loads(content_of(client, job.result_files[2]))
    assert told.message == found["verdict"]
    print(f"\n{job.id} {told.created_at - job.finished_at} s: {found['verdict']}")
    for entry in found["comparison"]:
        print(f"  {entry['label']}: {entry['quality']:.2f} ({entry['quality_low']:.2f} to {entry['quality_high']:.2f})")
    print("  guess", found["guess"], "curve", found["learning_curve"], "losses", found["validation_losses"], flush=True)
    return found


def test_what_the_examples_teach_is_worth_tuning(client):
    found = verdict(client, *sorted_words(60, ROWS))
    assert found["kind"] == "tune"


def test_what_the_model_does_unasked_needs_a_prompt_alone(client):
    """The replies that are wanted are the base model's own."""

    def line(word):
        turns = [{"role": "user", "content": f"Say one sentence about {word}."}]
        said = client.chat.completions.create(model=BASE, messages=turns, temperature=0, max_completion_tokens=40)
        return json.dumps({"messages": [*turns, {"role": "assistant", "content": said.choices[0].message.content}]})

    lines = [line(word) for word in QUESTIONS]
    assert verdict(client, lines[:10], lines[10:])["kind"] == "prompt is enough"


def test_ten_examples_of_twelve_kinds_are_too_few(client):
    found = verdict(client, *sorted_words(10, ROWS, kinds=12))
    assert found["kind"] == "more data needed"
    assert [point["examples"] for point in found["learning_curve"]] == [3, 5, 10]


def test_random_labels_measure_nothing(client):
    assert verdict(client, *random_labels(60, ROWS))["kind"] == "not measurable"


def test_fifty_epochs_of_wrong_labels_overfit(client):
    found = verdict(client, *sorted_words(40, ROWS, wrong=0.3), epochs=50, batch_size=40)
    assert found["kind"] == "overfitted"
    assert ":ckpt-step-" in found["model"]
