"""An adapter added into its base's weights: W + B·A·(alpha / rank), in the base's own number type. Knows no engine."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Final

import numpy as np

from luthier.core.errors import InvalidRequest, Unavailable
from luthier.core.json import JsonObject
from luthier.data.tensors import Matrix, Stored, read_tensors

_TENSOR: Final = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])(?:\.default)?\.weight")
# What no plain W + B·A can hold.
_BEYOND: Final = ("use_dora", "modules_to_save", "alpha_pattern", "rank_pattern", "layer_replication", "fan_in_fan_out")


def read_adapter_config(adapter: Path) -> JsonObject:
    """A PEFT adapter's configuration. Errors: `Unavailable` for none, `InvalidRequest` for one of another kind."""
    try:
        config: JsonObject = json.loads((adapter / "adapter_config.json").read_text())
    except (OSError, ValueError) as error:
        raise Unavailable(f"adapter {adapter}: cannot be read: {error}") from error
    for name in _BEYOND:
        if config.get(name):
            raise InvalidRequest(f"adapter {adapter}: {name} cannot be served; train a plain LoRA")
    if config.get("bias", "none") != "none":
        raise InvalidRequest(f'adapter {adapter}: bias must be "none" to be served')
    return config


def lora_alpha(adapter: Path, config: JsonObject) -> tuple[int, float]:
    """Rank and alpha, by which `alpha / rank` scales; rank-stabilised LoRA is folded in."""
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or not isinstance(alpha, (int, float)):
        raise InvalidRequest(f"adapter {adapter}: adapter_config.json needs the numbers r and lora_alpha")
    return rank, alpha * math.sqrt(rank) if config.get("use_rslora") else float(alpha)


def module_of(name: str) -> tuple[str, str] | None:
    """The module that an adapter's tensor belongs to, and whether it is its A or its B; None for another tensor."""
    match = _TENSOR.fullmatch(name)
    return (match["module"], match["side"]) if match else None


def read_factors(adapter: Path) -> dict[str, dict[str, Matrix]]:
    """A and B of each module. Errors: `InvalidRequest` for a tensor that is none of these, or lacks its other half."""
    factors: dict[str, dict[str, Matrix]] = {}
    for name, tensor in read_tensors(adapter).items():
        place = module_of(name)
        if place is None:
            raise InvalidRequest(f"adapter {adapter}: tensor {name} is no LoRA factor of a module")
        factors.setdefault(place[0], {})[place[1]] = tensor.f32()
    for module, sides in factors.items():
        if missing := {"A", "B"} - set(sides):
            raise InvalidRequest(f"adapter {adapter}: module {module} has no LoRA factor {missing.pop()}")
    return factors


def merged(hf: Path, adapter: Path) -> dict[str, Stored]:
    """The base's tensors with the adapter added. Errors: `InvalidRequest` for a module that the base has not."""
    rank, alpha = lora_alpha(adapter, read_adapter_config(adapter))
    tensors = read_tensors(hf)
    for module, factors in read_factors(adapter).items():
        name = f"{module}.weight"
        if name not in tensors:
            raise InvalidRequest(f"adapter {adapter}: the base has no module {module}")
        product = np.float32(alpha / rank) * (factors["B"] @ factors["A"])
        tensors[name] = tensors[name].like(tensors[name].f32() + product)
    return tensors
