"""A GGUF as the Hugging Face folder that is trained: the inverse of `engines/base_gguf.py`. Knows keys and names.

Transformers reads GGUFs too, but loses scaled positions, soft caps, and how digits are split; this reads what the file
says, refuses what has no place, and whoever adds a base compares the outcome with llama.cpp.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np
import numpy.typing as npt
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig

from luthier.core.errors import InvalidRequest
from luthier.data.gguf_layout import ARCHITECTURES, PERMUTED, halved, llama3_divisors, tensor_names
from luthier.data.tensors import Kind, Matrix, Stored, write_tensors
from luthier.train.gguf_vocabulary import write_tokenizer

FLOAT32_PARAMETERS: Final = (
    1_000_000_000  # larger ones are kept in bfloat16, half the disk: no machine trains them in more
)
_KINDS: Final = {architecture: kind for kind, architecture in reversed(ARCHITECTURES.items())}
_LAST_27B: Final = {"gemma2": 46, "gemma3": 62}  # blocks of the one size whose queries are scaled by another width
_LLAMA3_WAVES: Final = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}  # of every Llama since 3.1

Keys = Mapping[str, Any]


class Reader(gguf.gguf_reader.GGUFReader):  # type: ignore[misc]  # gguf has no types
    """Reads through a plain view of the file: a slice of numpy's memmap costs 2 µs, and a vocabulary takes millions."""

    @property
    def data(self) -> np.ndarray:
        return self._view

    @data.setter
    def data(self, mapped: np.ndarray) -> None:
        self._view = np.asarray(mapped)

    def _get(self, offset: int, dtype: npt.DTypeLike, count: int = 1, override_order: str | None = None) -> np.ndarray:
        if int(offset) + int(count) * np.dtype(dtype).itemsize > len(self._view):
            raise ValueError(f"it ends before {count} numbers at byte {offset}")
        read: np.ndarray = super()._get(offset, dtype, count, override_order)
        return read


@functools.cache
def read_keys(path: Path) -> tuple[Reader, Keys]:
    """The file, and what its keys say. Errors: `InvalidRequest` for what is no GGUF, or not all of one."""
    with _readable(path):
        reader = Reader(path)
        return reader, {name: field.contents() for name, field in reader.fields.items()}


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Whatever a damaged file leads to is an error of the file's. Errors: `InvalidRequest`."""
    try:
        yield
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError, StrictDataclassError) as error:
        raise InvalidRequest(f"{path.name} cannot be read; it is cut, damaged or no GGUF: {error!r}") from error


def write_hf(path: Path, folder: Path) -> None:
    """Write config.json, model.safetensors, tokenizer.json and its configuration into a folder that exists.

    Errors: `InvalidRequest` for an architecture, tokenizer, tensor or setting that cannot be read, by name.
    """
    with _readable(path):
        _write_hf(*read_keys(path), folder)


def _write_hf(reader: Reader, keys: Keys, folder: Path) -> None:
    architecture = str(keys["general.architecture"])
    if architecture not in _KINDS:
        raise InvalidRequest(f"a GGUF of architecture {architecture!r} cannot be read here, only {', '.join(_KINDS)}")
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    try:
        config = _config(keys, architecture, tensors)
    except KeyError as missing:
        raise InvalidRequest(
            f"the GGUF does not say its {missing.args[0]}; it is cut or of another format"
        ) from missing
    if config.num_hidden_layers > len(tensors):
        raise InvalidRequest(
            f"the GGUF says that it has {config.num_hidden_layers} blocks, and has not as many tensors"
        )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    kind: Kind = "F32" if model.num_parameters() <= FLOAT32_PARAMETERS else "BF16"
    names = tensor_names(architecture, config.num_hidden_layers)
    found: dict[str, Stored] = {}
    for name, wanted in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        place = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if place not in tensors:
            raise InvalidRequest(f"the GGUF lacks a tensor for {name}")
        stored = tensors.pop(place)
        values = gguf.quants.dequantize(stored.data, stored.tensor_type).astype(np.float32)
        values = _as_trained(values, place, architecture, config)
        if values.shape != tuple(wanted.shape):
            raise InvalidRequest(f"tensor {place} has the shape {values.shape}; {name} wants {tuple(wanted.shape)}")
        found[name] = Stored.of(kind, values)
    if left := sorted(tensors.keys() - {"rope_freqs.weight"}):
        raise InvalidRequest(f"tensor {left[0]} has no place in a {config.model_type} model")
    config.architectures = [type(model).__name__]
    config.dtype = torch.float32 if kind == "F32" else torch.bfloat16
    config.save_pretrained(folder)
    write_tensors(folder / "model.safetensors", found)
    write_tokenizer(keys, folder)


def _config(keys: Keys, architecture: str, tensors: Mapping[str, Any]) -> PreTrainedConfig:
    told = {name.removeprefix(f"{architecture}."): value for name, value in keys.items()}
    heads, hidden = told["attention.head_count"], told["embedding_length"]
    width = told.get("attention.key_length") or hidden // heads
    kind = _KINDS[architecture]
    known: dict[str, Any] = {
        "vocab_size": int(tensors["token_embd.weight"].shape[-1]),
        "hidden_size": hidden,
        "intermediate_size": told["feed_forward_length"],
        "num_hidden_layers": told["block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": told.get("attention.head_count_kv", heads),
        "head_dim": width,
        "rms_norm_eps": told["attention.layer_norm_rms_epsilon"],
        "max_position_embeddings": told["context_length"],
        "tie_word_embeddings": "output.weight" not in tensors,
        "rope_parameters": _rope(told, architecture, width, tensors.get("rope_freqs.weight")),
        "bos_token_id": keys.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": keys.get("tokenizer.ggml.eos_token_id"),
        "pad_token_id": keys.get("tokenizer.ggml.padding_token_id"),
    }
    if kind in ("llama", "smollm3"):
        known["attention_bias"] = "blk.0.attn_q.bias" in tensors
    if architecture.startswith("gemma"):
        last = told["block_count"] == _LAST_27B[architecture]
        known["query_pre_attn_scalar"] = hidden // heads if last else width
        known["attn_logit_softcapping"] = told.get("attn_logit_softcapping")
        known["final_logit_softcapping"] = told.get("final_logit_softcapping")
    if kind in ("gemma2", "gemma3_text", "phi3") and told.get("attention.sliding_window"):
        known["sliding_window"] = told.get("attention.sliding_window")
    if kind == "phi3":
        known["original_max_position_embeddings"] = told.get(
            "rope.scaling.original_context_length", told["context_length"]
        )
    return AutoConfig.for_model(kind, **known)


def _rope(told: Keys, architecture: str, width: int, divisors: gguf.ReaderTensor | None) -> dict[str, Any]:
    """Positions, as Hugging Face says them. Errors: `InvalidRequest` for a scaling that it does not have."""
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": told.get("rope.freq_base", 10000.0)}
    turned = told.get("rope.dimension_count", width)
    if turned != width:
        rope["partial_rotary_factor"] = turned / width
    scaling = told.get("rope.scaling.type", "none")
    if scaling == "linear":
        rope |= {"rope_type": "linear", "factor": told.get("rope.scaling.factor")}
    elif scaling != "none":
        raise InvalidRequest(f"its positions are scaled by {scaling!r}, which cannot be read out of a GGUF here")
    if divisors is not None:
        rope |= _llama3(rope["rope_theta"], turned, np.asarray(divisors.data, np.float32))
    if architecture == "gemma3":
        near = {"rope_type": "default", "rope_theta": told.get("rope.freq_base_swa", 10000.0)}
        return {"full_attention": rope, "sliding_attention": near}
    return rope


def _llama3(base: float, width: int, divisors: Matrix) -> dict[str, Any]:
    """The scaling whose divisors these are: the factor is the largest, and the context that it began with stands in
    those between it and 1."""
    factor = float(divisors.max())
    smooth = (1 / divisors - 1 / factor) / (1 - 1 / factor) if factor > 1 else np.ones_like(divisors)
    between = (smooth > 1e-4) & (smooth < 1 - 1e-4)
    low, high = _LLAMA3_WAVES.values()
    wave = 2 * math.pi * base ** (np.arange(0, width, 2) / width)
    if between.any():
        original = round(float(np.median(wave[between] * (low + smooth[between] * (high - low)))))
        told = {**_LLAMA3_WAVES, "factor": factor, "original_max_position_embeddings": original}
        if np.allclose(llama3_divisors(base, width, told), divisors, rtol=1e-3):
            return {"rope_type": "llama3", **told}
    raise InvalidRequest("its frequencies are divided (rope_freqs.weight) otherwise than Llama 3's are")


def _as_trained(values: Matrix, place: str, architecture: str, config: PreTrainedConfig) -> Matrix:
    """A tensor in Hugging Face's layout."""
    if architecture in PERMUTED and (".attn_q." in place or ".attn_k." in place):
        heads = config.num_attention_heads if ".attn_q." in place else config.num_key_value_heads
        return halved(values.reshape(len(values), -1), heads).reshape(values.shape)
    if architecture.startswith("gemma") and place.endswith("norm.weight"):
        return values - np.float32(1)
    return values
