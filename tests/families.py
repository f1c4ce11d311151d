"""Tiny random models of the families that can be brought, as Hugging Face folders: every part real, none downloaded."""

import json
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from luthier.data.gguf_layout import SPLITS

TEXT = Path(__file__).with_name("families.txt")
PATTERNS = {name: pattern for (pattern, _), name in SPLITS.items()}
CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
LLAMA3 = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
# model_type, kind of splitting, special tokens (the first is BOS, the last EOS), the rest of its configuration
FAMILIES = {
    "llama 3": ("llama", "llama-bpe", LLAMA3, {"rope_parameters": LLAMA3_ROPE}),
    "llama 2": ("llama", "pieces, prefixed", ("<s>", "<unk>", "[INST]", "</s>"), {}),
    "mistral": ("mistral", "pieces", ("<s>", "<unk>", "[INST]", "</s>"), {"sliding_window": 256}),
    "qwen 2": ("qwen2", "qwen2", CHATML, {}),
    "qwen 3": ("qwen3", "qwen2", CHATML, {}),
    "gemma 2": ("gemma2", "pieces", ("<bos>", "<unk>", "<eos>", "<end_of_turn>"), {"query_pre_attn_scalar": 8}),
    "gemma 3": (
        "gemma3_text",
        "pieces",
        ("<bos>", "<unk>", "<eos>", "<end_of_turn>"),
        {"query_pre_attn_scalar": 8, "num_hidden_layers": 6, "sliding_window": 16},
    ),
    "phi": ("phi3", "pieces", ("<s>", "<unk>", "<|user|>", "<|assistant|>", "<|end|>"), {}),
    "smollm": ("llama", "smollm", CHATML, {"tie_word_embeddings": True}),
}


def make_hf(path: Path, family: str, *, template: str | None = None, **changes) -> Path:
    """The folder of a family's model; the same on every call."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    kind, splitting, special, config = FAMILIES[family]
    path.mkdir(parents=True)
    tokenizer = _tokenizer(splitting, special)
    tokenizer.save(str(path / "tokenizer.json"))
    told = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": special[0], "eos_token": special[-1]}
    told |= {"chat_template": template} if template else {}
    (path / "tokenizer_config.json").write_text(json.dumps(told))
    torch.manual_seed(7)
    ids = {"bos_token_id": 0, "eos_token_id": len(special) - 1, "pad_token_id": 0}
    size = {"vocab_size": tokenizer.get_vocab_size() + 5, "num_hidden_layers": 2, "max_position_embeddings": 512}
    shape = {**SMALL, **size, **ids, "initializer_range": 0.2, **config, **changes}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **shape))
    for name, weights in model.named_parameters():
        if name.endswith(("norm.weight", ".bias")):  # else all ones or zeros, which hide mistakes
            weights.data += torch.randn_like(weights) * 0.1
    model.save_pretrained(path)
    return path


def _tokenizer(splitting: str, special: tuple[str, ...]) -> Tokenizer:
    tokens = [AddedToken(token, special=True) for token in special]
    if splitting.startswith("pieces"):
        tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
        steps = [normalizers.Prepend("▁")] if "prefixed" in splitting else []
        tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
        tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
        alphabet: list[str] = []
        tokens += [AddedToken(f"<0x{byte:02X}>", special=False) for byte in range(256)]
    else:
        tokenizer = Tokenizer(models.BPE(ignore_merges=splitting == "llama-bpe"))
        first = pre_tokenizers.Digits(individual_digits=True)
        if splitting != "smollm":
            first = pre_tokenizers.Split(Regex(PATTERNS[splitting]), "isolated")
        last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=splitting == "smollm")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([first, last])
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=800, special_tokens=tokens, initial_alphabet=alphabet, show_progress=False, max_token_length=12
    )
    tokenizer.train([str(TEXT)], trainer)
    if "bos" in special[0] or "begin" in special[0] or special[0] == "<s>":
        bos = (special[0], 0)
        tokenizer.post_processor = processors.TemplateProcessing(f"{special[0]} $A", special_tokens=[bos])
    # Bytes are words of the vocabulary, not special tokens: a text that spells one is not cut there.
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] in special]
    return Tokenizer.from_str(json.dumps(state))
