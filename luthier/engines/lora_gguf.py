"""A PEFT adapter as a GGUF LoRA file, beside the adapter and made once. Knows tensors and names; no model, no torch.

A LoRA is W + B·A·(alpha / rank). llama.cpp keeps that form, with its own tensor names and one twist: files of the Llama
architecture hold the rows of q and k interleaved for its rotary embedding, so the rows of their B are interleaved too.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gguf

from luthier.core.errors import InvalidRequest
from luthier.data.gguf_layout import PERMUTED, interleaved, tensor_names
from luthier.data.merging import lora_alpha, module_of, read_adapter_config
from luthier.data.tensors import Matrix, read_tensors
from luthier.engines.gguf_header import GgufHeader
from luthier.engines.new_gguf import new_gguf


def adapter_gguf(adapter: Path, base: GgufHeader) -> Path:
    """`adapter.gguf` in the adapter's folder, converted if it is not there yet.

    Errors: `InvalidRequest` naming the tensor or setting that the format cannot hold, `Unavailable` for a file that
    cannot be read.
    """
    target = adapter / "adapter.gguf"
    if not target.exists():
        _, alpha = lora_alpha(adapter, read_adapter_config(adapter))
        tensors = {name: tensor.f32() for name, tensor in read_tensors(adapter).items()}
        _write(target, base.architecture, alpha, _renamed(adapter, tensors, base))
    return target


def _renamed(adapter: Path, tensors: dict[str, Matrix], base: GgufHeader) -> Iterator[tuple[str, Matrix]]:
    """Each tensor under llama.cpp's name. One without a place is an error: left out, it would change the answers."""
    try:
        names = tensor_names(base.architecture, base.blocks)
    except KeyError:
        words = f"adapters for architecture {base.architecture!r} cannot be converted to GGUF"
        raise InvalidRequest(words) from None
    for name, matrix in sorted(tensors.items()):
        module, side = module_of(name) or ("", "")
        place = names.get_name(f"{module}.weight", try_suffixes=(".weight",))
        if place is None:
            raise InvalidRequest(f"adapter {adapter}: tensor {name} has no place in a {base.architecture} model")
        if side == "B" and base.architecture in PERMUTED:
            if place.endswith("attn_q.weight"):
                matrix = interleaved(matrix, base.heads)
            elif place.endswith("attn_k.weight"):
                matrix = interleaved(matrix, base.kv_heads)
        yield f"{place}.lora_{side.lower()}", matrix


def _write(target: Path, architecture: str, alpha: float, tensors: Iterator[tuple[str, Matrix]]) -> None:
    with new_gguf(target, architecture) as writer:
        writer.add_type("adapter")
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
        for name, matrix in tensors:
            writer.add_tensor(name, matrix)
