"""A PEFT adapter as a GGUF LoRA file, beside the adapter and made once. Knows tensors and names; no model, no torch.

A LoRA is W + B·A·(alpha / rank). llama.cpp keeps that form, with its own tensor names and one twist: files of the Llama
architecture hold the rows of q and k interleaved for its rotary embedding, so the rows of their B are interleaved too.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import gguf
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize

from luthier.core.errors import InvalidRequest, Unavailable
from luthier.core.json import JsonObject
from luthier.core.run import sync_folder
from luthier.engines.gguf_header import GgufHeader

Matrix = NDArray[np.float32]

PERMUTED: Final = frozenset({"llama", "mistral3", "smollm3"})  # Mistral and SmolLM 1, 2 are of architecture "llama"
_TENSOR = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])(?:\.default)?\.weight")


def adapter_gguf(adapter: Path, base: GgufHeader) -> Path:
    """`adapter.gguf` in the adapter's folder, converted if it is not there yet.

    Errors: `InvalidRequest` naming the tensor or setting that the format cannot hold, `Unavailable` for a file that
    cannot be read.
    """
    target = adapter / "adapter.gguf"
    if not target.exists():
        try:
            config = json.loads((adapter / "adapter_config.json").read_text())
            raw: list[tuple[str, dict[str, object]]] = deserialize(  # type: ignore[no-untyped-call]  # its types are C's
                (adapter / "adapter_model.safetensors").read_bytes()
            )
        except (OSError, ValueError, SafetensorError) as error:
            raise Unavailable(f"adapter {adapter}: cannot be read: {error}") from error
        tensors = {name: _as_f32(name, value) for name, value in raw}
        _write(target, base.architecture, _alpha(adapter, config), _renamed(adapter, tensors, base))
    return target


def _as_f32(name: str, value: dict[str, object]) -> Matrix:
    data, shape, kind = value["data"], value["shape"], value["dtype"]
    if not isinstance(data, (bytes, bytearray)) or not isinstance(shape, (list, tuple)):
        raise TypeError(f"safetensors gave {name} as {value.keys()}")
    match kind:
        case "F32":
            flat = np.frombuffer(data, np.float32)
        case "F16":
            flat = np.frombuffer(data, np.float16).astype(np.float32)
        case "BF16":  # the upper half of a float32
            flat = (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
        case _:
            raise InvalidRequest(f"adapter tensor {name} is {kind}; F32, F16 and BF16 can be served")
    return flat.reshape(shape)


def _alpha(adapter: Path, config: JsonObject) -> float:
    """`adapter.lora.alpha`: llama.cpp scales by alpha / rank of each tensor, so rank-stabilised LoRA is folded in."""
    for name in ("use_dora", "modules_to_save", "alpha_pattern", "layer_replication", "fan_in_fan_out"):
        if config.get(name):
            raise InvalidRequest(f"adapter {adapter}: {name} cannot be served by llama.cpp; train a plain LoRA")
    if config.get("bias", "none") != "none":
        raise InvalidRequest(f'adapter {adapter}: bias must be "none" to be served by llama.cpp')
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or not isinstance(alpha, (int, float)):
        raise InvalidRequest(f"adapter {adapter}: adapter_config.json needs the numbers r and lora_alpha")
    return alpha * math.sqrt(rank) if config.get("use_rslora") else float(alpha)


def _renamed(adapter: Path, tensors: dict[str, Matrix], base: GgufHeader) -> Iterator[tuple[str, Matrix]]:
    """Each tensor under llama.cpp's name. One without a place is an error: left out, it would change the answers."""
    architectures = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}
    if base.architecture not in architectures:
        raise InvalidRequest(f"adapters for architecture {base.architecture!r} cannot be converted to GGUF")
    names = gguf.get_tensor_name_map(architectures[base.architecture], base.blocks)
    for name, matrix in sorted(tensors.items()):
        match = _TENSOR.fullmatch(name)
        place = names.get_name(match["module"] + ".weight", try_suffixes=(".weight",)) if match else None
        if match is None or place is None:
            raise InvalidRequest(f"adapter {adapter}: tensor {name} has no place in a {base.architecture} model")
        if match["side"] == "B" and base.architecture in PERMUTED:
            if place.endswith("attn_q.weight"):
                matrix = interleaved(matrix, base.heads)
            elif place.endswith("attn_k.weight"):
                matrix = interleaved(matrix, base.kv_heads)
        yield f"{place}.lora_{match['side'].lower()}", matrix


def interleaved(rows: Matrix, heads: int) -> Matrix:
    """Rows (heads · [first half, second half]) with the halves of each head taken in turn, as llama.cpp has q and k."""
    return np.ascontiguousarray(rows.reshape(heads, 2, -1, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape))


def _write(target: Path, architecture: str, alpha: float, tensors: Iterator[tuple[str, Matrix]]) -> None:
    temporary = target.with_name(f".{target.name}.tmp")
    writer = gguf.GGUFWriter(temporary, architecture)
    writer.add_type("adapter")
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
    for name, matrix in tensors:
        writer.add_tensor(name, matrix)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    temporary.rename(target)
    sync_folder(target.parent)
