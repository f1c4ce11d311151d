"""What tests ask engines."""

from tokenizers import Tokenizer

HELLO = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 8, "temperature": 0}
SCHEMA = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "green"]}},
    "required": ["colour"],
    "additionalProperties": False,
}
COLOUR = {"type": "json_schema", "json_schema": {"name": "colour", "schema": SCHEMA}}
TOOL = {"type": "function", "function": {"name": "paint", "parameters": SCHEMA}}

TEXT = "the quick brown fox"
# llama.cpp keeps keys and values in 16 bits; the adapters here move log-probabilities by whole numbers.
TOLERANCE = 0.02


def ids_of(base, text=TEXT):
    """A text's tokens by the trainer's tokenizer."""
    return Tokenizer.from_file(str(base.tokenizer)).encode(text, add_special_tokens=False).ids
