"""Whose text a stream's pieces are, where a stop text may hold some back. Knows llama.cpp's words, no server.

llama.cpp tells of each token when it comes, but under the text that it sends just then: none while that may be the
beginning of a stop text, and with the next token all of it.
"""

from __future__ import annotations

from luthier.engines.asking import Wire
from luthier.engines.vocabulary import Vocabulary


class HeldTokens:
    """One choice's tokens, held until their text is sent. Those of the stop text itself are never told."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._held: list[Wire] = []

    def told(self, piece: Wire) -> Wire:
        """The piece with the tokens that its text is of, each in its own words."""
        self._held += (piece["logprobs"] or {"content": []})["content"]
        text, reason = piece["text"], piece["finish_reason"]
        if reason == "length":  # llama.cpp would lose what is still held
            text += b"".join(own for own, special in map(self._own, self._held) if not special).decode(errors="replace")
        if not text and not reason:
            return {**piece, "logprobs": None}
        content, self._held = self._apart(text.encode()), []
        return {**piece, "text": text, "logprobs": {"content": content} if content else None}

    def _own(self, token: Wire) -> tuple[bytes, bool]:
        return self._vocabulary.get(token["id"]), self._vocabulary.is_special(token["id"])

    def _apart(self, sent: bytes) -> list[Wire]:
        """The text among the tokens that were held, up to where a stop text cut it."""
        told: list[Wire] = []
        for place, token in enumerate(self._held, 1):
            own, special = self._own(token)
            if special and not sent.startswith(own):
                own = b""  # a mark that is not shown, such as the end of an answer
            if own and not sent:
                break
            taken, said = _share(sent, own, last=place == len(self._held))
            sent = sent[len(taken) :]
            told.append({**token, "token": said.decode(errors="replace"), "bytes": list(said)})
        return told


def _share(sent: bytes, own: bytes, *, last: bool) -> tuple[bytes, bytes]:
    """What of the text sent is a token's, and what it said."""
    if sent and own.startswith(sent):
        return sent, own  # cut by a stop text within it, or all there is
    shown = own.decode(errors="replace").encode()  # bytes that are no text are sent so
    taken, said = (shown, own) if sent.startswith(shown) else 2 * (_up_to(own, sent),)
    return (sent, sent) if last and taken != sent else (taken, said)


def _up_to(own: bytes, sent: bytes) -> bytes:
    """The text to the end of a character's last token: llama.cpp does not tell of those before."""
    at = sent.find(own, 1) if own and _goes_on(own[0]) else -1
    while at >= 0:
        end = at + len(own)
        if end == len(sent) or not _goes_on(sent[end]):
            return sent[:end]
        at = sent.find(own, at + 1)
    return b""


def _goes_on(byte: int) -> bool:
    """Whether a byte of UTF-8 stands within a character."""
    return byte & 0xC0 == 0x80
