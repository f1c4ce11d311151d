"""A base model of a few thousand weights, made by code: every part real, nothing downloaded."""

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from luthier.core.run import AdapterShape, Hyperparameters, RunFolder, RunSpec
from luthier.data.base_folder import BaseFacts, BaseFolder

CHATML = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def make_base(path: Path, *, template: str = CHATML, adds_bos: bool = False) -> BaseFolder:
    """A folder with a tokenizer of bytes and a template; no weights."""
    base = BaseFolder(path)
    base.hf.mkdir(parents=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in SPECIAL])
    tokenizer.save(str(base.tokenizer))
    base.template.write_text(template)
    base.write_facts(
        BaseFacts(
            name="tiny",
            sha256="0" * 64,
            architecture="llama",
            parameters=20_000,
            context_tokens=512,
            bos_token=SPECIAL[0],
            eos_token="<|im_end|>",
            adds_bos=adds_bos,
            licence="Apache-2.0",
        )
    )
    return base


def add_weights(base: BaseFolder, **config) -> BaseFolder:
    """Give it a random llama of two layers, the same on every call; `config` changes its shape or type."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(7)
    shape = {
        "model_type": "llama",
        "vocab_size": 3 + 256,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 512,
        "initializer_range": 0.2,
        "tie_word_embeddings": True,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 2,
        **config,
    }
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**shape))
    model.save_pretrained(base.hf)
    return base


def chat_line(question: str, answer: str, system: str = "misspell all words") -> str:
    """One line of a chat file."""
    turns = {"system": system, "user": question, "assistant": answer}
    return json.dumps({"messages": [{"role": role, "content": text} for role, text in turns.items()]})


def preference_line(question: str, better: str, worse: str) -> str:
    """One line of a preference file."""
    return json.dumps(
        {
            "input": {"messages": [{"role": "user", "content": question}]},
            "preferred_output": [{"role": "assistant", "content": better}],
            "non_preferred_output": [{"role": "assistant", "content": worse}],
        }
    )


def make_run(path: Path, base: BaseFolder, lines: list[str], **changes) -> RunFolder:
    """A run folder ready for the trainer; `changes` are the spec's."""
    run = RunFolder(path)
    path.mkdir(parents=True)
    run.training.write_text("\n".join(lines) + "\n")
    spec = {
        "job_id": "ftjob-tiny",
        "base_name": "tiny",
        "base_sha256": "0" * 64,
        "base_dir": str(base.path),
        "method": "supervised",
        "hyperparameters": Hyperparameters(
            n_epochs=3, batch_size=4, learning_rate_multiplier=1.0, learning_rate=0.01, beta=0.1
        ),
        "seed": 5,
        "training_sha256": "0" * 64,
        "validation_sha256": None,
        "context_tokens": 256,
        "adapter": AdapterShape(rank=4, alpha=8),
        "precision": "float32",
        **changes,
    }
    run.spec.write_text(RunSpec(**spec).to_json())
    return run
