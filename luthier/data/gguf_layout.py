"""What llama.cpp's files say or hold otherwise than Hugging Face's: names, the order of rows, how texts are split.

Knows no file. Read both ways: `engines/base_gguf.py` writes a GGUF, `train/from_gguf.py` reads one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import gguf
import numpy as np

from luthier.data.tensors import Matrix

ARCHITECTURES: Final = {  # Hugging Face's model_type, and llama.cpp's architecture
    "llama": "llama",  # SmolLM 1 and 2 too
    "mistral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma2": "gemma2",
    "gemma3_text": "gemma3",
    "phi3": "phi3",
    "smollm3": "smollm3",
}
PERMUTED: Final = frozenset({"llama", "mistral3", "smollm3"})  # Mistral and SmolLM 1, 2 are of architecture "llama"
_END: Final = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORDS: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_UPPER: Final = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER: Final = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_TALL: Final = rf"{_UPPER}*{_LOWER}+%s|{_UPPER}+{_LOWER}*%s|"
_SHORT: Final = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_SLASHED: Final = _END.replace("[\\r\\n]*", "[\\r\\n/]*")
SPLITS: Final = {  # pattern, and whether whole words are looked up before merging: llama.cpp's name
    (_WORDS + r"\p{N}|" + _END, False): "qwen2",
    (_WORDS + r"\p{N}{1,3}|" + _END, True): "llama-bpe",
    (_WORDS + r"\p{N}{1,3}|" + _END, False): "dbrx",
    (_TALL % ("", "") + r"\p{N}|" + _SLASHED, True): "tekken",
    (_TALL % ("", "") + r"\p{N}|" + _SLASHED, False): "tekken",
    (_TALL % (_SHORT, _SHORT) + r"\p{N}{1,3}|" + _SLASHED, False): "gpt-4o",
}


def tensor_names(architecture: str, blocks: int) -> gguf.TensorNameMap:
    """llama.cpp's names of Hugging Face's tensors. Errors: `KeyError` for an architecture that it does not have."""
    numbers = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}
    return gguf.get_tensor_name_map(numbers[architecture], blocks)


def interleaved(rows: Matrix, heads: int) -> Matrix:
    """Rows (heads · [first half, second half]) with the halves of each head taken in turn, as llama.cpp has q and k."""
    return np.ascontiguousarray(rows.reshape(heads, 2, -1, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape))


def halved(rows: Matrix, heads: int) -> Matrix:
    """The inverse of `interleaved`."""
    return np.ascontiguousarray(rows.reshape(heads, -1, 2, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape))


def llama3_divisors(base: float, width: int, given: Mapping[str, Any]) -> Matrix:
    """Llama 3.1's scaling: long waves are stretched by `factor`, short ones kept, those between blended."""
    low, high, factor = given["low_freq_factor"], given["high_freq_factor"], given["factor"]
    original = given["original_max_position_embeddings"]
    wave = 2 * math.pi * base ** (np.arange(0, width, 2) / width)
    smooth = np.clip((original / wave - low) / (high - low), 0, 1)
    return np.asarray(1 / ((1 - smooth) / factor + smooth), np.float32)
