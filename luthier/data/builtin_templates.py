"""Chat templates for bases that bring none: each family's, known by the tokens that its tokenizer has."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Final

from luthier.core.errors import InvalidRequest

_TURNS: Final = (
    "{%% for message in messages %%}{{ '%s' + message['role'] + '%s' + message['content'] + %s }}{%% endfor %%}"
    "{%% if add_generation_prompt %%}{{ '%sassistant%s' }}{%% endif %%}"
)
# Families that know no system message have it at the head of the first question.
_NO_SYSTEM: Final = (
    "{%- if messages[0]['role'] == 'system' -%}{%- set head = messages[0]['content'] + '\n\n' -%}"
    "{%- set turns = messages[1:] -%}{%- else -%}{%- set head = '' -%}{%- set turns = messages -%}{%- endif -%}"
    "{%- if not turns or turns[0]['role'] != 'user' -%}"
    "{{ raise_exception('after the system message, if any, the first must be from the user') }}{%- endif -%}"
)


def _turns(opening: str, middle: str, end: str) -> str:
    return _TURNS % (opening, middle, end, opening, middle)


BUILT_IN: Final = {
    "chatml": _turns("<|im_start|>", "\n", "'<|im_end|>\n'"),
    "llama3": "{{ bos_token }}" + _turns("<|start_header_id|>", "<|end_header_id|>\n\n", "'<|eot_id|>'"),
    "phi3": _turns("<|", "|>\n", "'<|end|>\n'"),
    "gemma": "{{ bos_token }}"
    + _NO_SYSTEM
    + "{% for message in turns %}{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else 'user') + '\n'"
    " + (head if loop.first else '') + message['content'] + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
    "mistral": "{{ bos_token }}"
    + _NO_SYSTEM
    + "{% for message in turns %}{% if message['role'] == 'assistant' %}{{ ' ' + message['content'] + eos_token }}"
    "{% else %}{{ '[INST] ' + (head if loop.first else '') + message['content'] + ' [/INST]' }}{% endif %}"
    "{% endfor %}",
    # ChatML in letters: turns end with the only token that is sure to be there.
    "chatml-text": _turns("<|im_start|>", "\n", "eos_token + '\n'"),
}
_MARKS: Final = {
    "chatml": "<|im_end|>",
    "llama3": "<|eot_id|>",
    "phi3": "<|end|>",
    "gemma": "<end_of_turn>",
    "mistral": "[INST]",
}


def family_template(tokens: Collection[str]) -> str:
    """The name of the template whose end-of-turn token a tokenizer has; of ChatML in letters where it has none."""
    return next((name for name, mark in _MARKS.items() if mark in tokens), "chatml-text")


def template_text(name_or_file: str) -> str:
    """A built-in template, or a file's text. Errors: `InvalidRequest` naming those that there are."""
    if name_or_file in BUILT_IN:
        return BUILT_IN[name_or_file]
    try:
        return Path(name_or_file).expanduser().read_text()
    except OSError as error:
        names = ", ".join(BUILT_IN)
        raise InvalidRequest(f"chat template {name_or_file!r} is neither a file nor one of {names}: {error}") from error
