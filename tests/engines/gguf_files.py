"""A tiny base's weights as the GGUF that llama.cpp serves, and adapters for it, all from numpy."""

import json
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import load_file, save_file

from luthier.data.base_folder import BaseFolder
from luthier.data.gguf_layout import interleaved
from tests.tiny import SPECIAL

MODULES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
CONTROL, NORMAL = 3, 1


def write_gguf(base: BaseFolder) -> BaseFolder:
    """Write `model.gguf` from the base's `hf/`, as llama.cpp's own converter would."""
    config = json.loads((base.hf / "config.json").read_text())
    vocabulary = json.loads(base.tokenizer.read_text())["model"]["vocab"]
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    heads, kv_heads, blocks = (config[f"num_{n}"] for n in ("attention_heads", "key_value_heads", "hidden_layers"))
    writer = gguf.GGUFWriter(base.gguf, "llama")
    writer.add_block_count(blocks)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([CONTROL if token in SPECIAL else NORMAL for token in tokens])
    writer.add_token_merges(["Ā Ā"])  # two zero bytes: llama.cpp wants a merge, texts here have none
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_add_bos_token(base.read_facts().adds_bos)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, blocks)
    for name, tensor in load_file(base.hf / "model.safetensors").items():
        tensor = tensor.astype(np.float32)
        if name.endswith("q_proj.weight"):
            tensor = interleaved(tensor, heads)
        elif name.endswith("k_proj.weight"):
            tensor = interleaved(tensor, kv_heads)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return base


def write_adapter(base: BaseFolder, path: Path, *, seed: int, rank: int = 4, alpha: int = 8, **config) -> Path:
    """A random PEFT adapter on all linear layers, strong enough to be seen."""
    shapes = {name: t.shape for name, t in load_file(base.hf / "model.safetensors").items()}
    random = np.random.default_rng(seed)
    tensors = {}
    for name, shape in shapes.items():
        if name.removesuffix(".weight").partition(".layers.")[2].partition(".")[2] in MODULES:
            place = f"base_model.model.{name.removesuffix('.weight')}"
            tensors[f"{place}.lora_A.weight"] = random.standard_normal((rank, shape[1])).astype(np.float32) * 0.3
            tensors[f"{place}.lora_B.weight"] = random.standard_normal((shape[0], rank)).astype(np.float32) * 0.3
    path.mkdir()
    save_file(tensors, path / "adapter_model.safetensors")
    shown = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "bias": "none", **config}
    (path / "adapter_config.json").write_text(json.dumps(shown))
    return path


def reference_logprobs(base: BaseFolder, ids: list[int], adapter: Path | None = None) -> np.ndarray:
    """Log-probabilities of each token after the first, by transformers, the adapter added to the weights."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base.hf, dtype=torch.float32)
    if adapter is not None:
        config = json.loads((adapter / "adapter_config.json").read_text())
        tensors = {name: torch.from_numpy(t) for name, t in load_file(adapter / "adapter_model.safetensors").items()}
        weights = dict(model.named_parameters())
        for name, low in tensors.items():
            if name.endswith("lora_A.weight"):
                high = tensors[name.replace("lora_A", "lora_B")]
                module = name.removeprefix("base_model.model.").replace("lora_A.weight", "weight")
                weights[module].data += high @ low * (config["lora_alpha"] / config["r"])
    with torch.no_grad():
        logprobs = torch.log_softmax(model(torch.tensor([ids])).logits[0, :-1], dim=-1)
    return logprobs[range(len(ids) - 1), ids[1:]].numpy()
