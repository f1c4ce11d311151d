"""Ids in OpenAI's forms. Random, URL-safe, unguessable."""

from __future__ import annotations

import os
import secrets
import socket
import string
from typing import Final

_ALPHABET: Final = string.ascii_letters + string.digits

# Prefix by noun, as OpenAI spells them, hyphen and underscore included.
PREFIXES: Final = {
    "file": "file-",
    "job": "ftjob-",
    "event": "ftevent-",
    "checkpoint": "ftckpt_",
    "model": "model_",
    "permission": "cp_",
    "upload": "upload_",
    "part": "part_",
    "chat": "chatcmpl-",
    "completion": "cmpl-",
    "response": "resp_",
    "message": "msg_",
    "function_call": "fc_",
    "call": "call_",
    "batch": "batch_",
    "batch_request": "batch_req_",
    "eval": "eval_",
    "eval_run": "evalrun_",
    "output_item": "outputitem_",
    "webhook_endpoint": "whe_",
    "webhook_event": "evt_",
    "delivery": "wh_",
    "mail": "mail_",
    "verdict": "verdict_",
    "request": "req_",
    "project": "proj_",
    "organization": "org-",
    "key": "key_",
    "audit": "audit_log-",
}


def new_id(noun: str) -> str:
    """A fresh id such as `ftjob-` and 24 letters and digits: 142 bits, so ids are never guessed or repeated."""
    return PREFIXES[noun] + random_text(24)


def item_id(noun: str, response_id: str, place: int) -> str:
    """The id of an item of a response's output, which tells the response: `response_of` has it back."""
    return f"{PREFIXES[noun]}{response_id.removeprefix(PREFIXES['response'])}{place:02x}"


def response_of(item_id: str) -> str:
    """The id of the response that an item's id would belong to, whether there is one or not."""
    return PREFIXES["response"] + item_id.partition("_")[2][:24]


def random_text(length: int) -> str:
    """`length` random letters and digits."""
    number, text = int.from_bytes(secrets.token_bytes(length)), []
    for _ in range(length):  # two bits more a character than it takes: all are as likely, to one in 4^length
        number, place = divmod(number, len(_ALPHABET))
        text.append(_ALPHABET[place])
    return "".join(text)


def worker_name() -> str:
    """A name for what works in this process, which nothing else has."""
    return f"{socket.gethostname()}-{os.getpid()}-{random_text(6)}"
