"""Inputs that nobody wrote: good ones, changed at random in their bytes and in their JSON. Same draw, same input."""

import json
import random
import struct

WORDS = [
    *(
        b"\x00",
        b"\xff\xfe",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
        b"\n",
        b"\r\n",
        b'"',
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
    ),
    *(rb"\ud800", rb"\udc00\ud800", rb"\u0000", b"NaN", b"-Infinity", b"1e999", b"-0", b"null", b"true", b"1" * 5_000),
    *(b"9223372036854775808", b"18446744073709551616", b"[" * 20_000, b'{"a":' * 20_000, b"A" * 70_000, b"\n" * 200),
]
NUMBERS = [0, 1, 2, 0x7F, 0xFF, 0xFFFF, 1 << 20, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 62) - 1, (1 << 63) - 1, -1]


def _deep(levels):
    value = []
    for level in range(levels):
        value = {"a": value} if level % 2 else [value]
    return value


VALUES = [
    json.dumps(value)
    for value in (
        *(
            None,
            True,
            False,
            0,
            -1,
            1,
            1.5,
            2**31,
            2**63,
            2**64,
            10**400,
            float("nan"),
            float("inf"),
            [],
            {},
            [[]],
            {"": 0},
        ),
        *(
            "",
            "\x00",
            "\ud800",
            "🦆",
            "a" * 10_000,
            "auto",
            "(a+)+$",
            "#",
            "1" * 5_000,
            "[" * 5_000,
            _deep(40),
            _deep(120),
        ),
    )
]


def mutated(draw: random.Random, seeds: list[bytes], words: list[bytes] = WORDS) -> bytes:
    """One of the seeds, changed in one to six places."""
    data = draw.choice(seeds)
    changes = draw.choice((1, 1, 1, 2, 3, 6))
    if data.startswith(b'{"') and draw.random() < 0.6:
        lines = data.split(b"\n")
        at = draw.randrange(len(lines))
        tree = json.loads(lines[at] or b"{}")
        for _ in range(changes):
            tree = _reshaped(draw, tree)
        lines[at] = json.dumps(tree).encode()
        data, changes = b"\n".join(lines), draw.choice((0, 0, 0, 1))
    for _ in range(changes):
        data = draw.choice(BYTES)(draw, data, seeds, words)
    return data


def _reshaped(draw, tree):
    """A JSON value with one place in it replaced, left out, doubled, named otherwise, wrapped or moved."""
    places = list(_places(tree))
    if not places:
        return json.loads(draw.choice(VALUES))
    (owner, key), (_, other) = draw.choice(places), draw.choice(places)
    value = owner[key]
    match draw.randrange(7):
        case 0 | 1:
            owner[key] = json.loads(draw.choice(VALUES))
        case 2:
            del owner[key]
        case 3 if isinstance(owner, dict):
            owner[str(other)] = owner.pop(key)
        case 3 | 4:
            owner[key] = [value, value] if draw.random() < 0.5 else {str(other): value}
        case 5:
            owner[key] = str(value)
        case 6:
            where, name = draw.choice(places)
            owner[key] = json.loads(json.dumps(where.get(name) if isinstance(where, dict) else value))
    return tree


def _places(tree):
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in inner:
        yield tree, key
        yield from _places(value)


def _at(draw, data):
    return draw.randrange(len(data) + 1)


def _flipped(draw, data, seeds, words):
    at = _at(draw, data)
    return data[:at] + bytes([draw.randrange(256)]) + data[at + 1 :]


def _inserted(draw, data, seeds, words):
    at = _at(draw, data)
    return data[:at] + draw.choice(words) + data[at + draw.choice((0, 0, 1, 8)) :]


def _numbered(draw, data, seeds, words):
    """A number of a binary format made strange."""
    at, form = _at(draw, data), draw.choice(("<I", "<Q"))
    width = struct.calcsize(form)
    return data[:at] + struct.pack(form, draw.choice(NUMBERS) % (1 << (8 * width))) + data[at + width :]


def _cut(draw, data, seeds, words):
    return data[: _at(draw, data)]


def _without(draw, data, seeds, words):
    start, end = sorted((_at(draw, data), _at(draw, data)))
    return data[:start] + data[end:]


def _spliced(draw, data, seeds, words):
    other = draw.choice(seeds)
    return data[: _at(draw, data)] + other[_at(draw, other) :]


def _doubled(draw, data, seeds, words):
    start, end = sorted((_at(draw, data), _at(draw, data)))
    return data[:end] + data[start:]


BYTES = [_flipped, _flipped, _inserted, _inserted, _numbered, _cut, _without, _spliced, _doubled]
