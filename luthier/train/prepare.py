"""Completes a base folder: the weights that a GGUF holds, dequantised once, as the trainer loads them.

    python -m luthier.train.prepare FOLDER --name NAME --sha256 HASH --licence LICENCE

FOLDER holds `model.gguf`, `hf/` or both, and `template.jinja` where one was chosen. Writes what is missing of them and,
last, `facts.json`; prints a line per step. Knows no downloads.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging

from luthier.core.errors import LuthierError
from luthier.core.json import JsonObject
from luthier.core.run import sync_folder, write_atomic
from luthier.data.base_folder import BaseFacts, BaseFolder
from luthier.data.builtin_templates import BUILT_IN, family_template
from luthier.data.template import ChatTemplate
from luthier.train.from_gguf import read_keys, write_hf
from luthier.train.gguf_vocabulary import adds_bos as adds_bos_of


def prepare(base: BaseFolder, *, name: str, sha256: str, licence: str) -> BaseFacts:
    """Complete the folder and return its facts; a complete one is left alone."""
    if base.ready:
        return base.read_facts()
    adds_bos = False
    if base.gguf.exists():
        adds_bos = adds_bos_of(read_keys(base.gguf)[1])
        _dequantise(base)
    elif not base.hf.exists():
        raise SystemExit(f"{base.path}: neither model.gguf nor hf/ is there; put one of them in place first")
    tokenizer = AutoTokenizer.from_pretrained(base.hf)
    template = _choose_template(base, tokenizer)
    config = AutoConfig.from_pretrained(base.hf).get_text_config()
    with torch.device("meta"):
        parameters = AutoModelForCausalLM.from_config(config).num_parameters()
    facts = BaseFacts(
        name=name,
        sha256=sha256,
        architecture=config.model_type,
        parameters=parameters,
        context_tokens=config.max_position_embeddings,
        bos_token=tokenizer.bos_token,
        eos_token=tokenizer.eos_token,
        adds_bos=adds_bos if base.gguf.exists() else bool(tokenizer("x")["input_ids"][0] == tokenizer.bos_token_id),
        licence=licence,
        template=template,
    )
    facts = replace(facts, stop_tokens=_stop_tokens(base, facts))
    base.write_facts(facts)
    return facts


def _choose_template(base: BaseFolder, tokenizer: PreTrainedTokenizerBase) -> str:
    """The chosen template, else the model's own, else its family's; says which."""
    if base.template.exists():
        return "given"
    own = tokenizer.chat_template
    own = own.get("default") if isinstance(own, dict) else own
    name = "its own" if own else family_template(tokenizer.get_vocab())
    write_atomic(base.template, (own or BUILT_IN[name]).encode())
    return name


def _stop_tokens(base: BaseFolder, facts: BaseFacts) -> tuple[str, ...]:
    """What ends an answer: EOS, and what the template puts after one."""
    template = ChatTemplate(base.template.read_text(), bos_token=facts.bos_token, eos_token=facts.eos_token)
    chat: list[JsonObject] = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    answered = template.render_answers(chat, [False, True])
    said = answered.text[answered.spans[0].start : answered.spans[0].end]
    end = said.rpartition("!")[2].strip()
    return tuple(dict.fromkeys(filter(None, (end, facts.eos_token))))


def _dequantise(base: BaseFolder) -> None:
    """Write `hf/` from the GGUF; there when complete."""
    if base.hf.exists():
        return
    _say("reading the GGUF and dequantising its weights")
    temporary = base.path / ".hf.tmp"  # one writes it at a time
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        write_hf(base.gguf, temporary)
        for file in temporary.iterdir():
            with file.open("rb") as written:
                os.fsync(written.fileno())
        temporary.rename(base.hf)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    sync_folder(base.path)


def _say(what: str) -> None:
    print(f"{what} ...", flush=True)  # noqa: T201  # progress, read by whoever started this process


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m luthier.train.prepare", description=__doc__)
    parser.add_argument("folder", type=Path)
    for option in ("--name", "--sha256", "--licence"):
        parser.add_argument(option, required=True)
    given = parser.parse_args()
    logging.disable_progress_bar()
    started = time.monotonic()
    try:
        facts = prepare(BaseFolder(given.folder), name=given.name, sha256=given.sha256, licence=given.licence)
    except (LuthierError, ValueError, NotImplementedError) as error:  # transformers' words for what it cannot read
        sys.exit(str(error))
    _say(f"{facts.name}: {facts.parameters / 1e6:.0f}M parameters, ready after {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
