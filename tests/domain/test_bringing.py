"""Bases of every family, from a Hugging Face folder to a tuned model that llama.cpp serves as it was trained."""

import asyncio
import json

import numpy as np
import pytest
from gguf import GGUFWriter, RopeScalingType

from luthier.core.bases import BaseSource
from luthier.core.errors import InvalidRequest
from luthier.data.tensors import Stored, read_tensors, write_tensors
from luthier.domain import bases, bringing
from luthier.domain.bases import Bases, quiet
from luthier.domain.bringing import bring
from luthier.domain.certify import compare
from luthier.engines.base import Adapter
from luthier.engines.base_gguf import write_base_gguf
from luthier.engines.llamacpp import LlamaCpp
from tests.domain.brought import bring_family, run_here, trained
from tests.families import FAMILIES, make_hf

# llama.cpp computes in float32 here as the trainer does, but keeps keys and values in 16 bits.
TOLERANCE = 0.02
YARN = RopeScalingType.YARN
TEMPLATES = {"llama 3": "llama3", "qwen 2": "chatml", "gemma 3": "gemma", "phi": "phi3", "mistral": "mistral"}
QUICK = {"mistral", "qwen 3", "gemma 3", "phi"}  # pieces and permutation; norms; windows; fused layers


def held(folder, run):
    async def ask():
        engine = LlamaCpp(folder)
        try:
            probe = json.loads(run.probe.read_text())
            return await compare(engine, Adapter("tuned", run.adapter), probe, folder.template.read_text())
        finally:
            await engine.close()

    return asyncio.run(ask())


@pytest.mark.parametrize("family", [f if f in QUICK else pytest.param(f, marks=pytest.mark.slow) for f in FAMILIES])
def test_a_family_is_brought_trained_and_served(tmp_path, monkeypatch, family):
    _, folder, base = bring_family(tmp_path, family, monkeypatch)
    assert base.largest_difference < TOLERANCE
    assert folder.read_facts().template == TEMPLATES.get(family, folder.read_facts().template)
    certificate = held(folder, trained(tmp_path / "run", folder))
    assert certificate.largest_difference < 5 * TOLERANCE
    assert certificate.differed == certificate.replies == 3


def test_biases_of_attention_in_16_bits_are_served(tmp_path, monkeypatch):
    """llama.cpp ends itself where a vector is not in float32."""
    _, _, base = bring_family(tmp_path, "smollm", monkeypatch, attention_bias=True, dtype="bfloat16")
    assert base.largest_difference < 5 * TOLERANCE


def test_frequencies_among_the_weights_of_older_models_are_left_out(tmp_path):
    hf = make_hf(tmp_path / "hf", "llama 2")
    write_base_gguf(hf, tmp_path / "new.gguf", name="mine")
    kept = read_tensors(hf)
    frequencies = Stored.of("F32", np.ones(4, np.float32))
    kept |= {f"model.layers.{layer}.self_attn.rotary_emb.inv_freq": frequencies for layer in range(2)}
    write_tensors(tmp_path / "old.safetensors", kept)
    (tmp_path / "old.safetensors").replace(hf / "model.safetensors")
    write_base_gguf(hf, tmp_path / "old.gguf", name="mine")
    assert (tmp_path / "old.gguf").read_bytes() == (tmp_path / "new.gguf").read_bytes()


def bring_gguf(path, family, monkeypatch):
    monkeypatch.setattr(bases, "run_aside", run_here)
    monkeypatch.setattr(bringing, "run_aside", run_here)
    write_base_gguf(make_hf(path / "hf", family), path / "model.gguf", name="mine")
    registry = Bases(path / "cache", {}, path / "added")
    return bring(registry, BaseSource("mine", f"file:{path / 'model.gguf'}", "", ""), quiet)[1]


@pytest.mark.parametrize("family", [f if f in QUICK else pytest.param(f, marks=pytest.mark.slow) for f in FAMILIES])
def test_a_gguf_alone_is_brought(tmp_path, monkeypatch, family):
    assert bring_gguf(tmp_path, family, monkeypatch).largest_difference < TOLERANCE


def test_a_gguf_with_what_we_cannot_read_is_refused_by_name(tmp_path, monkeypatch):
    """Nothing of it is kept."""
    write = GGUFWriter.add_rope_freq_base
    monkeypatch.setattr(
        GGUFWriter, "add_rope_freq_base", lambda w, base: (write(w, base), w.add_rope_scaling_type(YARN))
    )
    with pytest.raises(InvalidRequest, match="mine was not added: .*positions are scaled by 'yarn'"):
        bring_gguf(tmp_path, "smollm", monkeypatch)
    assert not [p for p in (tmp_path / "cache/bases").iterdir() if p.is_dir()]
    assert Bases(tmp_path / "cache", {}, tmp_path / "added").names() == ["smollm2-135m-instruct"]


def test_what_cannot_be_served_is_refused_when_added(tmp_path, monkeypatch):
    rope = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0}
    with pytest.raises(InvalidRequest, match=r"positions scaled by 'yarn'.*only linear and llama3"):
        bring_family(tmp_path, "qwen 2", monkeypatch, rope_parameters=rope)


def test_a_chosen_template_replaces_the_models_own(tmp_path, monkeypatch):
    own = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    registry, folder, _ = bring_family(tmp_path, "smollm", monkeypatch, template="chatml")
    assert folder.read_facts().template == "given"
    assert folder.read_facts().stop_tokens == ("<|im_end|>",)
    assert "im_start" in folder.template.read_text() != own
    assert registry.source("mine").template == "chatml"


@pytest.mark.slow
def test_in_processes_of_their_own_and_seen_by_a_running_server(tmp_path):
    """As the command does it; the registry of a server that runs finds the base without a restart."""
    server = Bases(tmp_path / "cache", {}, tmp_path / "added")
    hf = make_hf(tmp_path / "hf", "qwen 2")
    (hf / "README.md").write_text("---\nlicense: mit\n---\n")
    source = BaseSource("mine", f"file:{hf}", "", "")
    assert "mine" not in server.names()
    facts, certificate = bring(Bases(tmp_path / "cache", {}, tmp_path / "added"), source, quiet)
    assert (facts.licence, facts.template, facts.stop_tokens) == ("mit", "chatml", ("<|im_end|>",))
    assert certificate.compared == 16
    assert server.source("mine").sha256 == facts.sha256
    assert server.facts("mine") == facts
    with pytest.raises(InvalidRequest, match="already"):
        bring(server, source, quiet)
