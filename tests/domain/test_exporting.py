"""Models taken away and brought in: each form is asked by llama.cpp, and by transformers where it reads it."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from luthier.core.bases import BaseSource
from luthier.core.errors import InvalidRequest, JobFailed, NotFound, Unavailable
from luthier.core.models import Alias, TunedModel
from luthier.core.settings import Settings
from luthier.data.tensors import read_tensors, write_tensors
from luthier.domain import bases, exporting, models
from luthier.domain.exporting import export, import_adapter
from luthier.domain.platform import open_platform
from luthier.store import aliases
from luthier.store import models as rows
from tests.cli.test_commands import failing, luthier
from tests.databases import database_url
from tests.domain.brought import bring_family, run_here, trained

NAME = "ft:mine:acme:tone:abc"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A platform with a tuned model, as a job would have left it."""
    data = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        _, folder, _ = bring_family(data, "smollm", patch)
        patch.setattr(exporting, "run_aside", run_here)
        settings = Settings(data=data, cache=data / "cache", database_url=database_url(data))
        shutil.copytree(data / "added", settings.added_bases)
        platform = open_platform(settings)
        run = trained(settings.runs / "ftjob-a", folder)
        sha256 = folder.read_facts().sha256
        model = TunedModel("model_a", NAME, platform.project.id, None, "mine", sha256, "ftjob-a/adapter", 1)
        with platform.database.transaction() as connection:
            rows.add(connection, model)
        yield SimpleNamespace(platform=platform, folder=folder, run=run, probe=json.loads(run.probe.read_text()))
        platform.close()


def taken(made, form, target):
    return export(made.platform, NAME, form, target, bases.quiet)


def transformers_differ(made, model):
    """The largest difference between the trainer's log-probabilities and transformers'."""
    worst = 0.0
    for row in made.probe["rows"]:
        ids = torch.tensor([row["prompt_ids"] + row["answer_ids"]])
        with torch.no_grad():
            logp = model(ids).logits[0].log_softmax(-1)
        for at, (token, expected) in enumerate(row["trained"]):
            worst = max(worst, abs(logp[len(row["prompt_ids"]) - 1 + at, token].item() - expected))
    return worst


def test_merged_weights_answer_in_llamacpp_and_in_transformers(made, tmp_path):
    certificate = taken(made, "merged", tmp_path / "out")
    assert certificate.largest_difference < 0.1
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    assert transformers_differ(made, model) < 1e-3
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.chat_template == made.folder.template.read_text()
    assert NAME in (tmp_path / "out/README.md").read_text()


@pytest.mark.parametrize("form", ["gguf", "ollama", "adapter"])
def test_other_forms_answer_in_llamacpp(made, tmp_path, form):
    assert taken(made, form, tmp_path / "out").largest_difference < 0.1
    files = {p.name for p in (tmp_path / "out").iterdir()}
    expected = {"adapter": {"adapter_config.json", "adapter_model.safetensors"}}.get(form, {"model.gguf"})
    assert files == expected | {"README.md"} | ({"Modelfile"} if form == "ollama" else set())


def test_a_folder_may_be_named_from_where_one_stands(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert taken(made, "gguf", Path("out")).largest_difference < 0.1


def test_the_modelfile_has_template_and_stops(made, tmp_path):
    taken(made, "ollama", tmp_path / "out")
    text = (tmp_path / "out/Modelfile").read_text()
    assert text.startswith("FROM ./model.gguf\n")
    assert 'PARAMETER stop "<|im_end|>"' in text
    assert r'{{ "<|im_end|>\n<|im_start|>user\n" }}' in text


def test_what_does_not_answer_as_trained_is_told(made, tmp_path, monkeypatch):
    real = exporting.merged
    monkeypatch.setattr(exporting, "merged", lambda hf, adapter: {**real(hf, adapter), **_only_norms(hf)})
    with pytest.raises(JobFailed, match="Its weights are not those that were trained"):
        taken(made, "merged", tmp_path / "out")


def _only_norms(hf):
    return {n: t.like(t.f32() * 3) for n, t in read_tensors(hf).items() if n.endswith("norm.weight")}


def test_folders_and_forms_that_will_not_do(made, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").write_text("")
    with pytest.raises(InvalidRequest, match="empty folder"):
        taken(made, "gguf", tmp_path / "full")
    with pytest.raises(InvalidRequest, match="adapter, merged, gguf, ollama, hub"):
        taken(made, "pth", tmp_path / "new")
    with pytest.raises(InvalidRequest, match="base model"):
        export(made.platform, "mine", "gguf", tmp_path / "new", bases.quiet)


def test_an_adapter_comes_back_under_any_name(made, tmp_path):
    taken(made, "adapter", tmp_path / "out")
    old = "ft:gpt-4o-mini-2024-07-18:acme::abc123"
    name, certificate = import_adapter(made.platform, tmp_path / "out", "mine", old, "", bases.quiet)
    assert (name, certificate.compared) == (old, 16)
    assert certificate.largest_difference < certificate.tolerance
    tuned = models.resolve(made.platform, made.platform.project.id, old).tuned
    assert (tuned.base, tuned.job_id) == ("mine", None)
    for name, words in ((old, "is a tuned model"), ("mine", "begins with ft:"), ("ft:an:alias", "is an alias")):
        aliases.add(made.platform.database, Alias(made.platform.project.id, "ft:an:alias", "mine", "key_x", 1))
        with pytest.raises(InvalidRequest, match=words):
            import_adapter(made.platform, tmp_path / "out", "mine", name, "", bases.quiet)
    with pytest.raises(NotFound, match="no project proj_x"):
        import_adapter(made.platform, tmp_path / "out", "mine", None, "", bases.quiet, project="proj_x")
    models.delete(made.platform, made.platform.project.id, old)
    assert not (made.platform.settings.runs / tuned.id).exists()


def test_a_base_that_was_exchanged_is_not_merged_into(made, tmp_path, monkeypatch):
    other = BaseSource("mine", "file:/another.gguf", "0" * 64, "MIT")
    monkeypatch.setattr(made.platform.bases, "_extra", {"mine": other})
    with pytest.raises(Unavailable, match="trained on another file of mine"):
        taken(made, "gguf", tmp_path / "out")


def test_an_adapter_of_another_model_is_refused(made, tmp_path):
    taken(made, "adapter", tmp_path / "out")
    wrong = tmp_path / "out/adapter_model.safetensors"
    narrow = np.zeros((4, 7), np.float32)
    tensors = read_tensors(wrong.parent).items()
    tensors = {name: t.like(narrow) if "q_proj.lora_A" in name else t for name, t in tensors}
    write_tensors(tmp_path / "new", tensors)
    (tmp_path / "new").rename(wrong)
    with pytest.raises(Unavailable, match=r"q_proj: A is \[4, 7\], but the base wants \[16, 32\]"):
        import_adapter(made.platform, wrong.parent, "mine", None, "x", bases.quiet)
    with pytest.raises(InvalidRequest, match="adapter_config.json is missing"):
        import_adapter(made.platform, tmp_path, "mine", None, "x", bases.quiet)
    assert [p.name for p in made.platform.settings.runs.iterdir()] == ["ftjob-a"]


def test_by_the_commands_a_model_is_taken_away_and_brought_in(made, tmp_path, monkeypatch):
    settings = made.platform.settings
    monkeypatch.setenv("LUTHIER_CACHE", str(settings.cache))
    if settings.database_url:
        monkeypatch.setenv("LUTHIER_DATABASE_URL", settings.database_url)
    out, data = tmp_path / "out", ("--data", settings.data)
    assert f"{NAME} is in {out}: " in luthier("export", NAME, "--to", "adapter", "--output", out, *data).stdout
    assert {path.name for path in out.iterdir()} == {"adapter_config.json", "adapter_model.safetensors", "README.md"}
    old = "ft:gpt-3.5-turbo-0125:acme::xyz789"
    assert f"{old}: " in luthier("import-adapter", out, "--base", "mine", "--name", old, *data).stdout
    assert models.resolve(made.platform, made.platform.project.id, old).tuned.base == "mine"
    assert "--repo OWNER/NAME" in failing("export", NAME, "--to", "hub", "--output", tmp_path / "hub", *data)
    models.delete(made.platform, made.platform.project.id, old)
