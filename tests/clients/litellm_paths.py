"""LiteLLM: chats, a stream, embeddings, a file and a fine-tuning job. `CHATS` names the training file."""

import json
import os
import time
from pathlib import Path

import litellm

FINAL = {"succeeded", "failed", "cancelled"}
hello = [{"role": "user", "content": "hello there"}]
model = "openai/gpt-4o-mini"
whole = litellm.completion(model=model, messages=hello, num_retries=0)
stream = litellm.completion(model=model, messages=hello, stream=True, num_retries=0)
said = {
    "whole": whole.choices[0].message.content,
    "tokens": whole.usage.total_tokens,
    "stream": "".join(chunk.choices[0].delta.content or "" for chunk in stream),
    "responses": litellm.responses(model=model, input="hello there").output[0].content[0].text,
    "embeddings": len(litellm.embedding(model=model, input=["a", "b"]).data),
}
chats = Path(os.environ["CHATS"])
file = litellm.create_file(file=(chats.name, chats.read_bytes()), purpose="fine-tune", custom_llm_provider="openai")
job = litellm.create_fine_tuning_job(
    model="gpt-4o-mini", training_file=file.id, hyperparameters={"n_epochs": 1}, custom_llm_provider="openai"
)
while job.status not in FINAL:
    time.sleep(0.5)
    job = litellm.retrieve_fine_tuning_job(job.id, custom_llm_provider="openai")
tuned = litellm.completion(model=f"openai/{job.fine_tuned_model}", messages=hello, num_retries=0)
print(json.dumps({**said, "job": job.status, "tuned": tuned.choices[0].message.content}))
