"""LlamaIndex's fine-tuning engine, from file to answer. `CHATS` names the training file."""

import json
import os
import time

from llama_index.finetuning import OpenAIFinetuneEngine
from llama_index.llms.openai_like import OpenAILike

engine = OpenAIFinetuneEngine("gpt-4o-mini", os.environ["CHATS"], validate_json=False)
engine.finetune()
while (job := engine.get_current_job()).status not in {"succeeded", "failed", "cancelled"}:
    time.sleep(0.5)
try:
    answer = str(engine.get_finetuned_model(temperature=0).complete("hello there"))
except ValueError as error:  # its own list of context sizes has no other names than OpenAI's
    answer = f"ValueError: {error}"[:60]
like = OpenAILike(
    model=job.fine_tuned_model,
    api_base=os.environ["OPENAI_BASE_URL"],
    is_chat_model=True,
    api_key=os.environ["OPENAI_API_KEY"],
)
print(json.dumps({"job": job.status, "model": answer, "like": like.complete("hello there").text}))
