"""Tokens and the text that llama.cpp sends later than it tells of them."""

import json

import pytest

from luthier.engines.held_tokens import HeldTokens
from luthier.engines.vocabulary import Vocabulary

TOKENS = ("<s>", "</s>", "▁Paris", ".", "▁It", "<0xE6>", "<0x97>", "<0xA5>", "b", "▁a")
MARKS = TOKENS[:2]


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    file = tmp_path_factory.mktemp("tokens") / "tokenizer.json"
    model = {"byte_fallback": True, "vocab": {token: number for number, token in enumerate(TOKENS)}}
    added = [{"id": number, "content": mark, "special": True} for number, mark in enumerate(MARKS)]
    file.write_text(json.dumps({"model": model, "added_tokens": added}))
    return Vocabulary(file)


def told(vocabulary, *pieces, reason):
    """The text in the end, and the tokens told with each piece, of (token, text sent) and an ending."""
    held = HeldTokens(vocabulary)
    found = []
    for token, text in pieces:
        entry = {"id": TOKENS.index(token), "token": text, "bytes": [], "logprob": -1.0, "top_logprobs": []}
        found.append(held.told({"text": text, "logprobs": {"content": [entry]}, "finish_reason": None}))
    found.append(held.told({"text": "", "logprobs": None, "finish_reason": reason}))
    tokens = [[t["token"] for t in (piece["logprobs"] or {"content": []})["content"]] for piece in found]
    return "".join(piece["text"] for piece in found), tokens


@pytest.mark.parametrize(
    ("pieces", "reason", "text", "tokens"),
    [
        (
            [("▁Paris", ""), (".", " Paris."), ("▁It", " It")],
            "length",
            " Paris. It",
            [[], [" Paris", "."], [" It"], []],
        ),
        ([("▁Paris", ""), (".", "")], "length", " Paris.", [[], [], [" Paris", "."]]),
        ([("▁Paris", " Paris"), (".", ""), ("▁It", "")], "stop", " Paris", [[" Paris"], [], [], []]),
        ([("▁Paris", ""), (".", " Pa")], "stop", " Pa", [[], [" Paris"], []]),
        ([("▁Paris", ""), ("</s>", " Paris")], "stop", " Paris", [[], [" Paris", ""], []]),
        ([("</s>", "")], "stop", "", [[], [""]]),
        ([("<s>", ""), ("b", "<s>b")], "length", "<s>b", [[], ["<s>", "b"], []]),
        ([(".", ""), ("<0xA5>", ".日"), ("b", "b")], "length", ".日b", [[], [".", "日"], ["b"], []]),
        ([("<0xA5>", ""), ("b", "日b")], "length", "日b", [[], ["日", "b"], []]),
        ([("<0xA5>", ""), ("b", "�b")], "length", "�b", [[], ["�", "b"], []]),
        ([("▁a", "?")], "length", "?", [["?"], []]),
    ],
)
def test_each_token_is_told_with_its_text(vocabulary, pieces, reason, text, tokens):
    assert told(vocabulary, *pieces, reason=reason) == (text, tokens)
