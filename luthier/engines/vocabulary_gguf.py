"""A `tokenizer.json` as the keys by which llama.cpp makes the same tokens. Knows two kinds: bytes, and SentencePiece's.

llama.cpp knows how texts are split before merging by a name alone, found here by the pattern that the tokenizer has.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
from tokenizers import Tokenizer

from luthier.core.errors import InvalidRequest
from luthier.data.gguf_layout import SPLITS

Tokens = dict[str, Any]


def add_vocabulary(writer: gguf.GGUFWriter, hf: Path, config: Tokens) -> None:
    """Write the tokenizer's keys. Errors: `InvalidRequest` for a tokenizer of another kind."""
    file = hf / "tokenizer.json"
    if not file.exists():
        raise InvalidRequest("there is no tokenizer.json; save the model's fast tokenizer into the folder")
    tokenizer: Tokens = json.loads(file.read_text())
    model = tokenizer["model"]
    if model.get("type") != "BPE":
        raise InvalidRequest(f"its tokenizer is of the kind {model.get('type')!r}; only BPE can be converted")
    pieces = model.get("byte_fallback", False)  # SentencePiece's
    texts, types = _tokens(tokenizer, config["vocab_size"], pieces)
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    if pieces:
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_scores(_scores(texts, merges))
        writer.add_add_space_prefix(_prefixes_space(tokenizer))
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(_split_name(tokenizer))
        writer.add_token_merges(merges or ["Ā Ā"])  # llama.cpp wants a merge; two zero bytes stand in no text
    writer.add_token_list(texts)
    writer.add_token_types(types)
    for key, add in (("bos", writer.add_bos_token_id), ("eos", writer.add_eos_token_id)):
        if (number := _special(hf, config, f"{key}_token", texts)) is not None:
            add(number)
    bos = _special(hf, config, "bos_token", texts)
    first = Tokenizer.from_file(str(file)).encode("x").ids[0]
    writer.add_add_bos_token(bos is not None and first == bos)


def _tokens(tokenizer: Tokens, size: int, pieces: bool) -> tuple[list[str], list[int]]:
    kinds = gguf.TokenType
    texts = [f"[PAD{number}]" for number in range(size)]
    types = [int(kinds.UNUSED)] * size
    unknown = tokenizer["model"].get("unk_token")
    for text, number in tokenizer["model"]["vocab"].items():
        byte = pieces and len(text) == len("<0x00>") and text.startswith("<0x")
        texts[number] = text
        types[number] = int(kinds.BYTE if byte else kinds.UNKNOWN if pieces and text == unknown else kinds.NORMAL)
    for token in tokenizer["added_tokens"]:
        if token["id"] < size:
            texts[token["id"]] = token["content"]
            if types[token["id"]] != kinds.UNKNOWN:
                types[token["id"]] = int(kinds.CONTROL if token["special"] else kinds.USER_DEFINED)
    return texts, types


def _scores(texts: list[str], merges: list[str]) -> list[float]:
    """SentencePiece merges what scores highest; a piece's score is its merge's place in the order."""
    rank: dict[str, int] = {}
    for place, merge in enumerate(merges):
        rank.setdefault(merge.replace(" ", ""), place)
    return [-float(rank.get(text, len(merges))) for text in texts]


def _prefixes_space(tokenizer: Tokens) -> bool:
    parts = [*_parts(tokenizer.get("normalizer")), *_parts(tokenizer.get("pre_tokenizer"))]
    return any(
        part["type"] == "Prepend" or (part["type"] == "Metaspace" and part.get("prepend_scheme", "always") != "never")
        for part in parts
    )


def _split_name(tokenizer: Tokens) -> str:
    parts = _parts(tokenizer.get("pre_tokenizer"))
    patterns = [part["pattern"]["Regex"] for part in parts if part["type"] == "Split" and "Regex" in part["pattern"]]
    if not patterns and any(part["type"] == "ByteLevel" and part.get("use_regex", True) for part in parts):
        return "smollm" if any(part["type"] == "Digits" and part["individual_digits"] for part in parts) else "gpt-2"
    found = SPLITS.get((patterns[0] if len(patterns) == 1 else "", tokenizer["model"].get("ignore_merges", False)))
    if found is None:
        raise InvalidRequest(
            f"its tokenizer splits texts in a way that llama.cpp has no name for here: {patterns or parts}; "
            "if there is a GGUF of the model, add that: --gguf FILE"
        )
    return found


def _parts(step: Tokens | None) -> list[Tokens]:
    if step is None:
        return []
    inner = step.get("pretokenizers") or step.get("normalizers")
    return [part for one in inner for part in _parts(one)] if inner else [step]


def _special(hf: Path, config: Tokens, name: str, texts: list[str]) -> int | None:
    """A special token's id, as the tokenizer names it, else as the model's configuration does."""
    file = hf / "tokenizer_config.json"
    told = json.loads(file.read_text()).get(name) if file.exists() else None
    text = told.get("content") if isinstance(told, dict) else told
    if text in texts:
        return texts.index(text)
    number = config.get(f"{name}_id")
    number = number[0] if isinstance(number, list) else number
    return number if isinstance(number, int) and number < len(texts) else None
