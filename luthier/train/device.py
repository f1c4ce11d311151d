"""Where a model is trained, and in what type: decided by what the machine has, alike at every start.

A CUDA device is taken where there is one. That choice was written without such a machine at hand.
"""

from __future__ import annotations

import resource
import sys
from typing import Final, Literal

import torch

from luthier.core import machine

_NO_MEMORY: Final = (  # what says so in its words alone
    "can't allocate memory",  # torch's allocator on CPUs
    "std::bad_alloc",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDA error: out of memory",
)


def find_device() -> torch.device:
    """The first CUDA device, else the CPU."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def precision(asked: Literal["auto", "float32", "bfloat16"], device: torch.device) -> torch.dtype:
    """What the base is multiplied in: bfloat16 where the device has instructions for it, else it would be slower."""
    if asked != "auto":
        return torch.float32 if asked == "float32" else torch.bfloat16
    if device.type == "cuda":
        has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        has_bfloat16 = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if has_bfloat16 else torch.float32


def memory_bytes(device: torch.device) -> int:
    """All memory of the device or this container, whoever holds it now: the same number at every start."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return machine.memory_bytes()


def peak_bytes(device: torch.device) -> int:
    """The most memory that this process has held: of the device, or on the CPU of the machine."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that the device has no memory left."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(words in str(error) for words in _NO_MEMORY)


def give_back() -> None:
    """Hand the device what torch keeps of it for later: cuBLAS asks the device itself. Nothing on a CPU."""
    torch.cuda.empty_cache()
