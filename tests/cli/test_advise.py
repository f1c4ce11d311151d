import json

import pytest

from luthier.cli.advise import hold_out, without_tuning
from luthier.core.errors import InvalidRequest
from tests.cli.test_commands import failing, luthier
from tests.contract.objects import BASE
from tests.core.test_judging import trial


@pytest.fixture
def chats(tmp_path):
    """40 chats, the first of them twice; the echo engine answers as they do."""
    path = tmp_path / "chats.jsonl"
    turns = [[("system", "Echo."), ("user", f"q{n}"), ("assistant", f"q{n}")] for n in [0, *range(40)]]
    lines = [{"messages": [{"role": role, "content": text} for role, text in turn]} for turn in turns]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def test_a_fifth_is_held_out_without_repeats(chats):
    share = hold_out(chats)
    assert (len(share.examples), len(share.rows)) == (32, 8)
    assert len({row.reference for row in [*share.examples, *share.rows]}) == 40
    chats.write_text("\n".join(chats.read_text().splitlines()[:18]))
    with pytest.raises(InvalidRequest, match="17 different chats"):
        hold_out(chats)


def test_a_busy_server_is_asked_for_prompts_alone(environment, client, chats):
    file = client.files.create(file=chats, purpose="fine-tune")
    client.fine_tuning.jobs.create(model=BASE, training_file=file.id)
    done = luthier("advise", chats, "--prompt", "Say it.")
    assert "nothing is tuned" in done.stderr
    assert "Keep the prompt: stock comes 100% near to the references" in " ".join(done.stdout.split())
    assert "stock with your prompt" in done.stdout
    assert len(client.fine_tuning.jobs.list().data) == 1


def test_a_prompt_that_guesses_or_leaves_room_is_a_reason_to_tune():
    assert without_tuning(trial(2, 2, 0)).startswith("Tune: no prompt does better than a reply that ignores")
    found = without_tuning(trial(2, 20, 0))
    assert found.startswith("Try tuning: the best prompt leaves room. Stock with 5 examples in its prompt gets 50%")
    assert "for $0.500 per 1,000 requests; tuned, they would cost about $0.042" in found


def test_a_file_that_will_not_do_is_one_line(environment, tmp_path):
    (tmp_path / "bad.jsonl").write_text("no json")
    assert "luthier data check" in failing("advise", tmp_path / "bad.jsonl")
