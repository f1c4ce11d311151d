"""LangChain: chat completions and responses, whole and in a stream, an object, a tool, embeddings."""

import json

from langchain_openai import ChatOpenAI, OpenAIEmbeddings

said = {}
schema = {
    "title": "Echo",
    "description": "what was said",
    "type": "object",
    "properties": {"echo": {"type": "string"}},
    "required": ["echo"],
    "additionalProperties": False,
}
look = {
    "type": "function",
    "function": {"name": "look", "description": "looks", "parameters": {"type": "object", "properties": {}}},
}
for name, responses in (("chat", False), ("responses", True)):
    model = ChatOpenAI(model="gpt-4o-mini", use_responses_api=responses, max_retries=0)
    whole = model.invoke([("system", "Be brief."), ("user", "hello there")])
    said[name] = {
        "whole": whole.text,
        "tokens": whole.usage_metadata["total_tokens"],
        "stream": "".join(piece.text for piece in model.stream("hello there")),
        "object": model.with_structured_output(schema, method="json_schema").invoke("hello there"),
        "tools": [call["name"] for call in model.bind_tools([look], tool_choice="look").invoke("look").tool_calls],
    }
# It would fetch a tokenizer of OpenAI's to count with; this option sends the texts as they are.
embeddings = OpenAIEmbeddings(model="gpt-4o-mini", check_embedding_ctx_length=False, max_retries=0)
said["embeddings"] = len(embeddings.embed_documents(["a", "b"]))
print(json.dumps(said))
