"""The loop in this process: its numbers, its books, its validation. Golden losses: change them only with a reason."""

import csv
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from luthier.core.errors import JobFailed
from luthier.core.run import Hyperparameters
from luthier.data.base_folder import BaseFolder
from luthier.data.builtin_templates import BUILT_IN
from luthier.data.rows import Rows
from luthier.data.template import ChatTemplate
from luthier.train import budget, policy
from luthier.train.journal import Fence
from luthier.train.loop import train
from tests.tiny import chat_line, make_run, preference_line

CHATS = [chat_line(f"question {i}", f"ansir {i % 3}") for i in range(10)]
PAIRS = [preference_line(f"question {i}", f"ansir {i % 3}", f"answer {i % 3}") for i in range(10)]
TWO_EPOCHS = Hyperparameters(n_epochs=2, batch_size=4, learning_rate_multiplier=1.0, learning_rate=0.02, beta=0.1)
GOLDEN = {
    "supervised": [6.363529, 5.070265, 4.066976, 3.712792, 2.978424, 2.771124],
    "dpo": [0.693147, 0.338525, 0.185407, 0.125849, 0.087761, 0.052113],
}


def trained(tmp_path, base, lines, *, validation=(), **changes):
    run = make_run(tmp_path / "run", base, lines, hyperparameters=TWO_EPOCHS, **changes)
    if validation:
        run.validation.write_text("\n".join(validation))
    assert train(run, Fence(run, 0), lambda: False)
    return run


def events(run, kind):
    return [event.data for event, _ in run.read_events() if event.kind == kind]


@pytest.mark.parametrize("method", ["supervised", "dpo"])
def test_golden_losses(tmp_path, base, method):
    run = trained(tmp_path, base, CHATS if method == "supervised" else PAIRS, method=method)
    losses = [data["train_loss"] for data in events(run, "metrics")]
    assert losses == pytest.approx(GOLDEN[method], rel=1e-4)
    assert losses[-1] < losses[0]


def test_the_books(tmp_path, base):
    run = trained(tmp_path, base, CHATS)
    tokens = sum(len(row.ids) for row in row_of(base, CHATS))
    [started], [finished] = events(run, "started"), events(run, "finished")
    layers = 2 * ((32 + 32) * 2 + (32 + 16) * 2 + (32 + 48) * 3)
    assert started == {
        "total_steps": 6,
        "steps_per_epoch": 3,
        "trainable_parameters": 4 * layers,
        "precision": "float32",
    }
    assert (finished["trained_tokens"], finished["steps"]) == (2 * tokens, 6)
    metrics = events(run, "metrics")
    assert [data["step"] for data in metrics] == [1, 2, 3, 4, 5, 6]
    assert metrics[-1]["tokens_seen"] == 2 * tokens
    assert metrics[-1]["tokens_computed"] < 2 * tokens
    rows = list(csv.DictReader(run.metrics.read_text().splitlines()))
    assert list(rows[0]) == ["step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy"]
    assert [float(row["train_loss"]) for row in rows] == pytest.approx([d["train_loss"] for d in metrics], abs=1e-5)
    assert {row["valid_loss"] for row in rows} == {""}


def row_of(base, lines):
    from luthier.data.chats import Chat

    messages = [tuple(json.loads(line)["messages"]) for line in lines]
    chats = [(i, Chat(m, (False, False, True))) for i, m in enumerate(messages)]
    return [row for (row,) in Rows(base, 256).encode(chats)]


def test_validation_is_measured_in_part_and_whole(tmp_path, base):
    run = trained(tmp_path, base, CHATS, validation=CHATS[:3])
    metrics = events(run, "metrics")
    assert [("valid_loss" in data, "full_valid_loss" in data) for data in metrics] == [
        (True, False),
        (False, False),
        (False, True),
        (False, False),
        (False, False),
        (False, True),
    ]
    assert metrics[0]["valid_loss"] > metrics[-1]["full_valid_loss"]
    assert events(run, "checkpoint")[-1] == metrics[-1]


def test_dpo_learns_to_prefer(tmp_path, base):
    run = trained(tmp_path, base, PAIRS, validation=PAIRS[:4], method="dpo")
    first, *_, last = events(run, "metrics")
    assert first["train_loss"] == pytest.approx(0.6931, abs=1e-3)  # log 2: the adapter starts as the base
    assert last["full_valid_mean_token_accuracy"] == 1.0


def test_lines_that_cannot_be_learnt_are_passed_over(tmp_path, base):
    masked = json.dumps(
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 0}]}
    )
    run = trained(tmp_path / "a", base, [*CHATS[:5], masked, *CHATS[5:]])
    plain = trained(tmp_path / "b", base, CHATS)
    assert (run.adapter / "adapter_model.safetensors").read_bytes() == (
        plain.adapter / "adapter_model.safetensors"
    ).read_bytes()


def test_the_seed_orders_the_data(tmp_path, base):
    one, other = (trained(tmp_path / str(seed), base, CHATS, seed=seed) for seed in (1, 2))
    assert events(one, "metrics")[0]["train_loss"] != events(other, "metrics")[0]["train_loss"]


def test_peft_reads_the_adapter(tmp_path, base):
    run = trained(tmp_path, base, CHATS)
    config = json.loads((run.adapter / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["peft_type"]) == (4, 8, "LORA")
    tensors = load_file(run.adapter / "adapter_model.safetensors")
    a = tensors["base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"]
    b = tensors["base_model.model.model.layers.1.mlp.down_proj.lora_B.weight"]
    assert (a.shape, b.shape, a.dtype) == ((4, 32), (32, 4), torch.float32)
    assert len(tensors) == 2 * 7 * 2


def test_the_probe_is_what_the_adapted_model_thinks(tmp_path, base):
    from transformers import AutoModelForCausalLM

    run = trained(tmp_path, base, CHATS)
    written = json.loads(run.probe.read_text())
    probe = written["rows"][0]
    assert probe["body"]["messages"] == json.loads(CHATS[0])["messages"][:-1]
    model = AutoModelForCausalLM.from_pretrained(base.hf, dtype=torch.float32)
    tensors = load_file(run.adapter / "adapter_model.safetensors")
    for key, a in tensors.items():
        if key.endswith("lora_A.weight"):
            b = tensors[key.replace("lora_A", "lora_B")]
            name = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            model.get_submodule(name).weight.data += 2.0 * b @ a
    ids = torch.tensor([probe["prompt_ids"] + probe["answer_ids"]])
    with torch.no_grad():
        logp = model(ids).logits[0].log_softmax(-1)
    for at, (token, expected) in enumerate(probe["trained"]):
        here = logp[len(probe["prompt_ids"]) - 1 + at]
        assert here[3:].argmax() + 3 == token  # the first three are special
        assert here[token].item() == pytest.approx(expected, abs=1e-4)
    assert probe["base"] != probe["trained"]
    assert probe["end"] == [2, "<|im_end|>"]
    assert len(written["modules"]) == 7
    assert written["template"] == base.template.read_text()


def test_the_probe_is_of_rows_that_were_held_out(tmp_path, base):
    held_out = [chat_line(f"held out {i}", "ansir") for i in range(2)]
    run = trained(tmp_path, base, CHATS, validation=held_out)
    asked = [row["body"]["messages"][-1]["content"] for row in json.loads(run.probe.read_text())["rows"]]
    assert asked == ["held out 0", "held out 1"]


def test_the_probe_and_its_quote_are_of_rows_with_something_to_learn(tmp_path, base):
    user = {"role": "user", "content": "q"}
    masked = json.dumps({"messages": [user, {"role": "assistant", "content": "a", "weight": 0}]})
    run = trained(tmp_path, base, CHATS, validation=[masked, chat_line("q" * 600, "a"), masked, *CHATS[:4]])
    asked = [row["body"]["messages"][-1]["content"] for row in json.loads(run.probe.read_text())["rows"]]
    assert asked == ["question 0", "question 1", "question 2"]
    assert events(run, "quote")[0]["row_seconds"] > 0


def test_a_chat_whose_last_answer_was_cut_away_is_probed_at_the_one_before(tmp_path, base):
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "ansir"}]
    long = json.dumps({"messages": [*turns, {"role": "user", "content": "x" * 600}, turns[1]]})
    run = trained(tmp_path, base, CHATS, validation=[long])
    [row] = json.loads(run.probe.read_text())["rows"]
    assert [message["content"] for message in row["body"]["messages"]] == ["q"]


def probed_after(path, base, line, template):
    """The row that is probed of a line, and the ids that serving reads before what it was trained to say."""
    path.mkdir()
    own = BaseFolder(shutil.copytree(base.path, path / "base"))
    own.template.write_text(template)
    run = trained(path, own, CHATS, validation=[line])
    [row] = json.loads(run.probe.read_text())["rows"]
    prompt = ChatTemplate.of(own).render(row["body"]["messages"], add_generation_prompt=True)
    return row, Tokenizer.from_file(str(own.tokenizer)).encode(prompt).ids


ANSWERS = [{"role": "assistant", "content": text} for text in ("one", "two")]


@pytest.mark.parametrize("turns", [ANSWERS, [ANSWERS[0], {"role": "user", "content": "and?"}, ANSWERS[1]]])
def test_answers_without_heads_are_told_apart(tmp_path, base, turns):
    """Two in a row stand side by side in Mistral's template."""
    line = json.dumps({"messages": [{"role": "user", "content": "q"}, *turns]})
    row, prompt = probed_after(tmp_path / "a", base, line, BUILT_IN["mistral"])
    assert row["prompt_ids"] == prompt
    assert row["body"]["messages"] == json.loads(line)["messages"][:-1]
    assert (row["answer_tokens"], row["end"]) == (5, [2, "<|im_end|>"])


def test_an_answer_after_whose_prompt_another_one_was_cut_off_is_not_probed(tmp_path, base):
    """Serving joins that one with its prompt. This template ends only a chat's last answer."""
    joining = BaseFolder(shutil.copytree(base.path, tmp_path / "joining"))
    state = json.loads(base.tokenizer.read_text())
    state["model"]["vocab"]["\u010a\u010a"] = 258  # a byte that no text here has
    state["model"]["merges"].append(["\u010a", "\u010a"])
    joining.tokenizer.write_text(json.dumps(state))
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "\n\nansir"}]
    line = json.dumps({"messages": turns * 2})
    headed = "{% for m in messages %}{{ m.role + '\n' + m.content + '\n' }}{% endfor %}"
    template = headed + "{% if add_generation_prompt %}{{ 'assistant\n' }}{% endif %}"
    row, prompt = probed_after(tmp_path / "a", joining, line, template)
    assert row["prompt_ids"] == prompt
    assert (row["body"]["messages"], row["answer_tokens"], row["end"]) == (turns[:1], 7, None)


def test_out_of_memory_halves_what_is_held_at_once_and_changes_no_loss(tmp_path, base, monkeypatch):
    monkeypatch.setattr(budget, "MIN_BUDGET", 50)
    monkeypatch.setattr(policy, "MEMORY_SHARE", 0)
    monkeypatch.setattr(policy, "MIN_BUDGET", 400)
    whole = policy.Policy.score

    def score(self, trie):
        if trie.tokens_computed > 80:
            self._count(trie)
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory")
        return whole(self, trie)

    monkeypatch.setattr(policy.Policy, "score", score)
    run = trained(tmp_path, base, CHATS)
    assert [data["message"] for data in events(run, "warning")] == [
        "Memory ran out; training goes on with 63 tokens at once.",
    ]
    assert [data["train_loss"] for data in events(run, "metrics")] == pytest.approx(GOLDEN["supervised"], rel=1e-4)


def test_no_memory_for_the_fewest_tokens_says_what_would_help(tmp_path, base, monkeypatch):
    def score(self, trie):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(policy.Policy, "score", score)
    with pytest.raises(JobFailed, match="A step does not fit into memory.* smaller base"):
        trained(tmp_path, base, CHATS)
