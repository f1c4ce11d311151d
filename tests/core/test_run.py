import contextlib
import json
import os

from luthier.core.run import AdapterShape, Hyperparameters, RunFolder, RunSpec, new_file, write_atomic

SPEC = RunSpec(
    job_id="ftjob-a",
    base_name="b",
    base_sha256="00",
    base_dir="/bases/00",
    method="supervised",
    hyperparameters=Hyperparameters(n_epochs=1, batch_size=2, learning_rate_multiplier=1.0, learning_rate=1e-3),
    seed=7,
    training_sha256="11",
    validation_sha256=None,
    context_tokens=128,
    adapter=AdapterShape(rank=4, modules=("q_proj",)),
)


def test_a_spec_survives_json_and_is_stable():
    assert RunSpec.from_json(SPEC.to_json()) == SPEC
    assert RunSpec.from_json(SPEC.to_json()).to_json() == SPEC.to_json()


def test_half_a_line_of_events_is_left_for_later(tmp_path):
    run = RunFolder(tmp_path)
    assert list(run.read_events()) == []
    line = json.dumps({"kind": "started", "step": 0, "created_at": 1.0, "data": {}}).encode() + b"\n"
    run.events.write_bytes(line + line[:10])
    [(event, offset)] = run.read_events()
    assert (event.kind, offset) == ("started", len(line))
    run.events.write_bytes(line + line)
    assert len(list(run.read_events(offset))) == 1


def test_atomic_writing_leaves_nothing_else(tmp_path):
    write_atomic(tmp_path / "fence", b"3")
    write_atomic(tmp_path / "fence", b"4")
    assert os.listdir(tmp_path) == ["fence"]
    assert RunFolder(tmp_path).read_fence() == 4
    assert RunFolder(tmp_path / "other").read_fence() == 0


def test_a_file_that_is_not_finished_leaves_the_old_one(tmp_path):
    write_atomic(tmp_path / "receipt", b"old", mode=0o600)
    with contextlib.suppress(KeyboardInterrupt), new_file(tmp_path / "receipt") as half:
        half.write(b"ne")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == ["receipt"]
    assert (tmp_path / "receipt").read_bytes() == b"old"
    assert (tmp_path / "receipt").stat().st_mode & 0o777 == 0o600


def test_what_killed_writers_left_is_removed(tmp_path):
    (tmp_path / ".training.jsonl.7.tmp").write_text("a copy")
    (tmp_path / "training.jsonl").write_text("kept")
    RunFolder(tmp_path).remove_leavings()
    assert [path.name for path in tmp_path.iterdir()] == ["training.jsonl"]
