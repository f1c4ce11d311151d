"""A base's GGUF with an adapter added to its weights: every key and every other tensor as they were. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind

from luthier.core.errors import InvalidRequest
from luthier.data.tensors import Matrix
from luthier.engines.new_gguf import new_gguf

_ANEW: Final = (gguf.Keys.General.ARCHITECTURE, gguf.Keys.Tokenizer.CHAT_TEMPLATE)
# Rounded to 4 bits again, a merged model forgot what it had learnt: SmolLM2's log-probabilities were off by 7.38.
_FINE: Final = frozenset({Kind.F32, Kind.F16, Kind.BF16, Kind.Q8_0})


def write_merged_gguf(base: Path, adapter: Path, target: Path, *, template: str) -> None:
    """Add `adapter` (a GGUF LoRA of this base) to `base`, with the chat template that it was trained with.

    Merged tensors keep the base's kind of number where it has eight bits or more, and become Q8_0 where not.
    """
    model, lora = gguf.GGUFReader(base), gguf.GGUFReader(adapter)
    factors = {tensor.name: np.asarray(tensor.data) for tensor in lora.tensors}
    alpha = float(lora.fields[gguf.Keys.Adapter.LORA_ALPHA].contents())
    names = {name.rpartition(".lora_")[0] for name in factors}
    if missing := names - {tensor.name for tensor in model.tensors}:
        raise InvalidRequest(f"the base model has no tensor {', '.join(sorted(missing))}, which the adapter changes")
    with new_gguf(target, str(model.fields[gguf.Keys.General.ARCHITECTURE].contents())) as writer:
        for field in model.fields.values():
            if not field.name.startswith("GGUF.") and field.name not in _ANEW:
                _copy(writer, field)
        writer.add_chat_template(template)
        for tensor in model.tensors:
            if tensor.name not in names:
                writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
                continue
            a, b = factors[f"{tensor.name}.lora_a"], factors[f"{tensor.name}.lora_b"]
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
            data, kind = _as_kind(values + np.float32(alpha / len(a)) * (b @ a), tensor.tensor_type)
            writer.add_tensor(tensor.name, data, raw_dtype=kind)


def _copy(writer: gguf.GGUFWriter, field: gguf.ReaderField) -> None:
    kind = field.types[0]
    inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
    writer.add_key_value(field.name, field.contents(), kind, sub_type=inner)


def _as_kind(values: Matrix, kind: Kind) -> tuple[np.ndarray[Any, Any], Kind]:
    kind = kind if kind in _FINE else Kind.Q8_0
    return gguf.quants.quantize(values, kind), kind
