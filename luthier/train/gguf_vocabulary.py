"""The tokenizer of a GGUF as `tokenizer.json`: the inverse of `engines/vocabulary_gguf.py`. Knows keys, no weights.

What comes out makes the tokens that llama.cpp makes; whoever adds a base compares the two.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import gguf
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from luthier.core.errors import InvalidRequest
from luthier.data.gguf_layout import SPLITS

Keys = Mapping[str, Any]

_ALIASES: Final = {"llama3": "llama-bpe", "llama-v3": "llama-bpe", "gpt2": "gpt-2"}
# llama.cpp begins every prompt of these with BOS, unless the file says otherwise.
_BEGIN_WITH_BOS: Final = frozenset({"llama", "llama-bpe", "tekken"})
_PATTERNS: Final = {name: split for split, name in reversed(SPLITS.items())}


def adds_bos(keys: Keys) -> bool:
    """Whether llama.cpp puts BOS before every prompt."""
    kinds = {str(keys.get("tokenizer.ggml.model")), _split_name(keys)}
    return bool(keys.get("tokenizer.ggml.add_bos_token", not _BEGIN_WITH_BOS.isdisjoint(kinds)))


def write_tokenizer(keys: Keys, folder: Path) -> None:
    """Write `tokenizer.json` and its configuration. Errors: `InvalidRequest` for a tokenizer of another kind."""
    texts: list[str] = keys["tokenizer.ggml.tokens"]
    types: list[int] = keys.get("tokenizer.ggml.token_type") or [int(gguf.TokenType.NORMAL)] * len(texts)
    kind = keys.get("tokenizer.ggml.model")
    match kind:
        case "gpt2":
            tokenizer = _of_bytes(keys, texts, types)
        case "llama":
            tokenizer = _of_pieces(keys, texts, types)
        case _:
            raise InvalidRequest(f"its tokenizer is of the kind {kind!r}; only gpt2 and llama (BPE) can be read")
    for special, wanted in ((True, gguf.TokenType.CONTROL), (False, gguf.TokenType.USER_DEFINED)):
        tokens = [
            AddedToken(t, special=special, normalized=False) for t, n in zip(texts, types, strict=True) if n == wanted
        ]
        (tokenizer.add_special_tokens if special else tokenizer.add_tokens)(tokens)
    told: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast"}
    for name in ("bos", "eos"):
        if (number := keys.get(f"tokenizer.ggml.{name}_token_id")) is not None:
            told[f"{name}_token"] = texts[number]
    if adds_bos(keys):
        bos = told["bos_token"]
        number = keys["tokenizer.ggml.bos_token_id"]
        tokenizer.post_processor = processors.TemplateProcessing(f"{bos} $A", special_tokens=[(bos, number)])
    if template := keys.get("tokenizer.chat_template"):
        told["chat_template"] = template
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(told, ensure_ascii=False))


def _split_name(keys: Keys) -> str:
    name = str(keys.get("tokenizer.ggml.pre", "default"))
    return _ALIASES.get(name, name)


def _of_bytes(keys: Keys, texts: Sequence[str], types: Sequence[int]) -> Tokenizer:
    name = _split_name(keys)
    plain = name in ("gpt-2", "smollm")
    if not plain and name not in _PATTERNS:
        known = ", ".join(sorted({"gpt-2", "smollm", *_PATTERNS}))
        raise InvalidRequest(f"its tokenizer splits texts as {name!r} does; known are {known}")
    pattern, whole_words = ("", False) if plain else _PATTERNS[name]
    merges = [tuple(merge.split(" ", 1)) for merge in keys["tokenizer.ggml.merges"]]
    vocabulary = _vocabulary(texts, types)
    merges = [pair for pair in merges if "".join(pair) in vocabulary]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=whole_words))
    steps: list[pre_tokenizers.PreTokenizer] = []
    if name == "smollm":
        steps = [pre_tokenizers.Digits(individual_digits=True)]
    elif not plain:
        steps = [pre_tokenizers.Split(Regex(pattern), "isolated")]
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=plain))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _of_pieces(keys: Keys, texts: Sequence[str], types: Sequence[int]) -> Tokenizer:
    unknown = next((text for text, kind in zip(texts, types, strict=True) if kind == gguf.TokenType.UNKNOWN), None)
    vocabulary = _vocabulary(texts, types)
    merges = _merges(texts, types, keys["tokenizer.ggml.scores"])
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, byte_fallback=True, unk_token=unknown, fuse_unk=True))
    prefixed = keys.get("tokenizer.ggml.add_space_prefix", True)
    tokenizer.normalizer = normalizers.Sequence(
        [*([normalizers.Prepend("▁")] if prefixed else []), normalizers.Replace(" ", "▁")]
    )
    last = [decoders.Strip(" ", 1, 0)] if prefixed else []
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *last])
    return tokenizer


def _vocabulary(texts: Sequence[str], types: Sequence[int]) -> dict[str, int]:
    """Every token that can be met. Two of one text: the first is the one that is made."""
    met = [(text, number) for number, text in enumerate(texts) if types[number] != gguf.TokenType.UNUSED]
    return dict(reversed(met))


def _merges(texts: Sequence[str], types: Sequence[int], scores: Sequence[float]) -> list[tuple[str, str]]:
    """SentencePiece joins the two neighbours whose piece scores highest; so each way to halve a piece is a merge."""
    score = {t: s for t, s, kind in zip(texts, scores, types, strict=True) if kind == gguf.TokenType.NORMAL}
    found = [
        (-score[text], place, (text[:cut], text[cut:]))
        for place, text in enumerate(score)
        for cut in range(1, len(text))
        if text[:cut] in score and text[cut:] in score
    ]
    return [pair for _, _, pair in sorted(found)]
