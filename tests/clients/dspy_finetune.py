"""DSPy's fine-tune adapter, through `LM.finetune`, and a program that asks a model."""

import json

import dspy
from dspy.clients.utils_finetune import TrainDataFormat

lm = dspy.LM("openai/gpt-4o-mini", cache=False, num_retries=0)
chats = [
    {"messages": [{"role": "user", "content": f"question {n}"}, {"role": "assistant", "content": f"ansir {n}"}]}
    for n in range(10)
]
job = lm.finetune(chats, TrainDataFormat.CHAT, {"n_epochs": 1})
name = job.result().model
# LiteLLM takes `ft:` names without a provider for OpenAI's only where the base is one of OpenAI's.
tuned = job.result().copy(model=f"openai/{name}")
print(json.dumps({"answer": lm("hello there")[0], "model": name, "tuned": tuned("hello there")[0]}))
