"""A Hugging Face model's folder as the GGUF that llama.cpp serves. Knows names, keys and numbers; no torch.

llama.cpp's own converter is not in its wheel. This one knows seven families of decoders; whoever adds a base compares
what comes out with the model itself (`domain/bringing.py`), so a mistake here is a refusal there.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np

from luthier.core.errors import InvalidRequest
from luthier.data.gguf_layout import ARCHITECTURES, PERMUTED, interleaved, llama3_divisors, tensor_names
from luthier.data.tensors import Matrix, Stored, read_tensors
from luthier.engines.new_gguf import new_gguf
from luthier.engines.vocabulary_gguf import add_vocabulary

Config = dict[str, Any]
"""A model's `config.json`."""

_TYPES: Final = {
    "F32": gguf.GGMLQuantizationType.F32,
    "F16": gguf.GGMLQuantizationType.F16,
    "BF16": gguf.GGMLQuantizationType.BF16,
}
_COMPUTED: Final = ".rotary_emb.inv_freq"  # older transformers kept these with the weights; both sides compute them


def write_base_gguf(hf: Path, target: Path, *, name: str) -> None:
    """Write the GGUF of a folder with config.json, tokenizer.json and safetensors; matrices keep their number type.

    Errors: `InvalidRequest` for a model that cannot be written, saying why; `Unavailable` for files that are missing.
    """
    config: Config = json.loads((hf / "config.json").read_text())
    kind = str(config.get("model_type"))
    if kind not in ARCHITECTURES:
        raise InvalidRequest(
            f"models of type {kind} cannot be converted for llama.cpp here, only {', '.join(ARCHITECTURES)}; "
            "if there is a GGUF of it, add that: --gguf FILE"
        )
    architecture = ARCHITECTURES[kind]
    tensors = read_tensors(hf)
    with new_gguf(target, architecture) as writer:
        writer.add_name(name)
        _add_shape(writer, kind, config)
        freqs = _add_rope(writer, kind, config)
        add_vocabulary(writer, hf, config)
        if freqs is not None:
            writer.add_tensor("rope_freqs.weight", freqs)
        names = tensor_names(architecture, config["num_hidden_layers"])
        for tensor_name, tensor in tensors.items():
            if tensor_name.endswith(_COMPUTED):
                continue
            place = names.get_name(tensor_name, try_suffixes=(".weight", ".bias"))
            if place is None:
                raise InvalidRequest(f"tensor {tensor_name} has no place in a {architecture} model")
            _add_tensor(writer, place, _as_served(tensor, place, architecture, config))


def _add_shape(writer: gguf.GGUFWriter, kind: str, config: Config) -> None:
    heads = config["num_attention_heads"]
    width = config.get("head_dim") or config["hidden_size"] // heads
    window = config.get("sliding_window") if config.get("use_sliding_window", True) else None
    context = config["max_position_embeddings"]
    if window and ARCHITECTURES[kind] in ("llama", "qwen2", "qwen3"):
        context = min(context, window)  # llama.cpp lets these see everything; within the window it makes no difference
    writer.add_context_length(context)
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    if kind in ("gemma2", "gemma3_text", "phi3"):
        writer.add_sliding_window(window or 0)
    if config.get("attn_logit_softcapping"):
        writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
    if config.get("final_logit_softcapping"):
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])


def _add_rope(writer: gguf.GGUFWriter, kind: str, config: Config) -> Matrix | None:
    """Positions: base, and scaling as a key or, of Llama 3's kind, as the returned divisors of the frequencies."""
    rope = config.get("rope_parameters") or {}
    given = rope.get("full_attention", rope) or {}
    given = {**(config.get("rope_scaling") or {}), **given}
    base = given.get("rope_theta") or config.get("rope_theta") or 10000.0
    heads = config["num_attention_heads"]
    width = config.get("head_dim") or config["hidden_size"] // heads
    share = given.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0
    writer.add_rope_dimension_count(int(width * share))
    writer.add_rope_freq_base(base)
    if kind == "phi3":
        original = config.get("original_max_position_embeddings") or config["max_position_embeddings"]
        writer.add_rope_scaling_orig_ctx_len(original)
    match given.get("rope_type") or given.get("type") or "default":
        case "default":
            return None
        case "linear":
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(given["factor"])
            return None
        case "llama3":
            return llama3_divisors(base, int(width * share), given)
        case other:
            raise InvalidRequest(
                f"positions scaled by {other!r} cannot be trained and served alike here; only linear and llama3 can"
            )


def _as_served(tensor: Stored, place: str, architecture: str, config: Config) -> Stored:
    """A tensor in llama.cpp's layout."""
    if architecture in PERMUTED and ".attn_q." in place:
        tensor = tensor.like(_interleaved(tensor.f32(), config["num_attention_heads"]))
    if architecture in PERMUTED and ".attn_k." in place:
        heads = config.get("num_key_value_heads") or config["num_attention_heads"]
        tensor = tensor.like(_interleaved(tensor.f32(), heads))
    if len(tensor.shape) == 1:  # norms and biases: llama.cpp wants them in float32
        values = tensor.f32() + np.float32(architecture.startswith("gemma") and place.endswith("norm.weight"))
        return Stored("F32", tensor.shape, np.ascontiguousarray(values).view(np.uint8))
    return tensor


def _interleaved(values: Matrix, heads: int) -> Matrix:
    return interleaved(values.reshape(len(values), -1), heads).reshape(values.shape)


def _add_tensor(writer: gguf.GGUFWriter, place: str, tensor: Stored) -> None:
    size = tensor.raw.nbytes // math.prod(tensor.shape)
    rows = tensor.raw.reshape(*tensor.shape[:-1], tensor.shape[-1] * size)
    writer.add_tensor(place, rows, raw_dtype=_TYPES[tensor.kind])
