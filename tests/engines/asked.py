"""What tests ask engines."""

HELLO = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 8, "temperature": 0}
SCHEMA = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "green"]}},
    "required": ["colour"],
    "additionalProperties": False,
}
COLOUR = {"type": "json_schema", "json_schema": {"name": "colour", "schema": SCHEMA}}
TOOL = {"type": "function", "function": {"name": "paint", "parameters": SCHEMA}}
