"""The certificate on a tiny model that was really trained and is really served; then each way to break it."""

import asyncio
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from luthier.core.errors import InvalidRequest, JobFailed
from luthier.data.chats import Completion
from luthier.data.rows import Rows
from luthier.domain import certify
from luthier.domain.certify import compare
from luthier.engines import lora_gguf
from luthier.engines.base import Adapter
from luthier.engines.llamacpp import LlamaCpp
from luthier.train.journal import Fence
from luthier.train.loop import train
from tests.domain.brought import CHATS, FAST, bring_family, trained
from tests.tiny import CHATML, make_run


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A base's folder, and a run on it."""
    path = tmp_path_factory.mktemp("tuned")
    with pytest.MonkeyPatch.context() as patch:
        _, folder, _ = bring_family(path, "smollm", patch)
    return folder, trained(path / "run", folder)


def held(folder, adapter, probe):
    async def ask():
        engine = LlamaCpp(folder)
        try:
            return await compare(engine, Adapter("tuned", adapter), probe, folder.template.read_text())
        finally:
            await engine.close()

    return asyncio.run(ask())


def probe_of(run):
    return json.loads(run.probe.read_text())


def changed(run, path, change):
    """A copy of the run's adapter with other tensors."""
    shutil.copytree(run.adapter, path, ignore=shutil.ignore_patterns("adapter.gguf"))
    tensors = change(load_file(path / "adapter_model.safetensors"))
    save_file(tensors, path / "adapter_model.safetensors")
    return path


def renamed(old, new):
    swapped = {old: new, new: old}

    def change(tensors):
        kind = {name: name.split(".lora_")[0].rpartition(".")[2] for name in tensors}
        return {name.replace(kind[name], swapped.get(kind[name], kind[name])): t for name, t in tensors.items()}

    return change


def test_what_is_served_is_what_was_trained(tuned):
    folder, run = tuned
    certificate = held(folder, run.adapter, probe_of(run))
    assert certificate.compared == 12
    assert certificate.largest_difference < certificate.tolerance == 0.1
    assert (certificate.replies, certificate.differed) == (3, 3)
    assert "12 log-probabilities differ by at most" in str(certificate)


def test_names_that_no_module_has_are_named(tuned, tmp_path):
    folder, run = tuned
    wrong = changed(run, tmp_path / "wrong", renamed("q_proj", "z_proj"))
    with pytest.raises(InvalidRequest, match=r"tensor .*z_proj.* has no place"):
        held(folder, wrong, probe_of(run))


def test_modules_under_each_others_names_are_named(tuned, tmp_path):
    folder, run = tuned
    wrong = changed(run, tmp_path / "wrong", renamed("gate_proj", "up_proj"))
    with pytest.raises(JobFailed, match=r"Not applied as trained: gate_proj, up_proj\."):
        held(folder, wrong, probe_of(run))


def test_a_module_that_is_missing_is_named(tuned, tmp_path):
    folder, run = tuned
    wrong = changed(run, tmp_path / "wrong", lambda t: {n: v for n, v in t.items() if "down_proj" not in n})
    with pytest.raises(JobFailed, match=r"down_proj \(missing in the adapter\)"):
        held(folder, wrong, probe_of(run))


def test_q_and_k_without_their_permutation_are_named(tuned, tmp_path, monkeypatch):
    folder, run = tuned
    monkeypatch.setattr(lora_gguf, "PERMUTED", frozenset())
    with pytest.raises(JobFailed, match=r"Not applied as trained: k_proj, q_proj\."):
        held(folder, changed(run, tmp_path / "wrong", dict), probe_of(run))


def test_an_adapter_that_does_nothing_is_told(tuned, tmp_path):
    folder, run = tuned
    wrong = changed(run, tmp_path / "wrong", lambda t: {n: np.zeros_like(v) for n, v in t.items()})
    with pytest.raises(JobFailed, match="answers as the base model: the adapter is not applied"):
        held(folder, wrong, probe_of(run))


def test_a_swapped_template_is_told(tuned):
    folder, run = tuned
    probe = {**probe_of(run)}
    right = folder.template.read_text()
    try:
        folder.template.write_text(right.replace("<|im_start|>", "<|im_start|> "))
        with pytest.raises(JobFailed, match=r"chat template differs\. First difference at token 1, where .* read"):
            held(folder, run.adapter, probe)
    finally:
        folder.template.write_text(right)


def test_an_end_at_which_the_engine_does_not_stop_is_told(tuned):
    """As if answers ended with a token that llama.cpp takes for text."""
    folder, run = tuned
    probe = probe_of(run)
    for row in probe["rows"]:
        row["end"] = [row["answer_ids"][0], "<|over|>"]
    with pytest.raises(JobFailed, match=r"end with '<\|over\|>', but the engine does not stop at it"):
        held(folder, run.adapter, probe)


def test_a_model_whose_template_tells_the_date_is_the_same_on_another_day(tmp_path, monkeypatch):
    template = tmp_path / "dated.jinja"
    template.write_text("{{ 'Today: ' + strftime_now('%d %b %Y') + '\n' }}" + CHATML)
    _, folder, _ = bring_family(tmp_path, "smollm", monkeypatch, template=str(template))
    run = make_run(tmp_path / "run", folder, CHATS, hyperparameters=FAST, today="2024-02-29")
    assert train(run, Fence(run, 0), lambda: False)
    probe = probe_of(run)
    assert probe["today"] == "2024-02-29"
    assert "9" in probe["rows"][0]["prompt_texts"][:10]
    assert held(folder, run.adapter, probe).compared == 12


@pytest.mark.parametrize("family", ["smollm", "llama 2", "mistral"])
def test_what_was_cut_off_from_its_prompt_follows_what_the_engine_reads(tmp_path, family, monkeypatch):
    """Of each kind of tokenizer: bytes, pieces with a space before the first, pieces without."""
    _, folder, _ = bring_family(tmp_path, family, monkeypatch, template="mistral")
    pairs = [("a  ", "  b"), ("the ans", "wer"), ("def f():\n  ", "    return 1"), ("q:", " a"), ("12", "34")]
    made = Rows(folder, 256).encode(list(enumerate((Completion(*pair) for pair in pairs), 1)))
    whole = Tokenizer.from_file(str(folder.tokenizer))

    async def ask():
        engine = LlamaCpp(folder)
        try:
            return [await engine._asker.ids_of(prompt, None) for prompt, _ in pairs]
        finally:
            await engine.close()

    cut = 0
    for (row,), read, pair in zip(made, asyncio.run(ask()), pairs, strict=True):
        [(start, end)] = row.answers
        assert row.ids[:start].tolist() == read
        text = whole.decode(row.ids.tolist(), skip_special_tokens=True)
        assert text.strip() == "".join(pair).strip()
        cut += row.ids.tolist()[: end - 1] != whole.encode("".join(pair)).ids
    assert cut  # else nothing was tried


class Silent:
    """An engine that tells no log-probabilities, and no tokens."""

    async def tokenize(self, body, adapter, today):
        return []

    async def answer(self, endpoint, body, adapter):
        return {"choices": [{"logprobs": None}]}


def test_an_engine_without_log_probabilities_is_not_judged(tuned):
    folder, run = tuned
    assert asyncio.run(compare(Silent(), None, probe_of(run), folder.template.read_text())) is None


def test_a_comparison_of_nothing_is_no_praise(tuned, tmp_path):
    folder, run = tuned
    bare = make_run(tmp_path / "bare", folder, CHATS)
    bare.probe.write_text(json.dumps({**probe_of(run), "rows": [], "modules": {}}))

    class Portal:
        def call(self, function, *given):
            found = function(*given)
            return asyncio.run(found) if asyncio.iscoroutine(found) else found

    place = SimpleNamespace(settings=SimpleNamespace(runs=tmp_path), engines=SimpleNamespace(get=lambda _: Silent()))
    model = SimpleNamespace(id="ft:tiny", base="tiny", adapter="bare/adapter")
    [said] = certify.certify(None, bare, model, place, Portal())
    assert (said.level, said.data["compared"]) == ("warn", 0)
    assert "was not compared" in said.message


def test_calls_are_alike_whatever_their_ids():
    names = ["look", "look", "look", "go"]  # tuned, tuned, base, base
    row = {"body": {"messages": []}, "prompt_ids": [], "answer_ids": [], "answer_tokens": 4, "end": None}
    probe = {"template": "", "rows": [{**row, "trained": [], "base": []}] * 2, "modules": {}}

    class Calling:
        async def tokenize(self, body, adapter, today):
            return []

        async def answer(self, endpoint, body, adapter):
            call = {"id": f"call_{len(names)}", "type": "function", "function": {"name": names.pop(0), "arguments": ""}}
            choice = {"message": {"content": None, "tool_calls": [call]}, "finish_reason": "tool_calls"}
            return {"choices": [choice], "usage": {"completion_tokens": 4}}

    found = asyncio.run(compare(Calling(), Adapter("a", None), probe, ""))
    assert (found.replies, found.differed, found.stopped) == (2, 1, 2)
