"""Upload 50 chats, fine-tune on them, follow the job, call the result.

Needs OPENAI_BASE_URL and OPENAI_API_KEY, and nothing of Luthier's: the same file runs against OpenAI.
"""

import os
import time
from pathlib import Path

from openai import OpenAI

DATA = Path(__file__).parents[2] / "luthier" / "examples" / "misspell.jsonl"

client = OpenAI()
file = client.files.create(file=DATA, purpose="fine-tune")
job = client.fine_tuning.jobs.create(
    model=os.environ.get("MODEL", "smollm2-135m-instruct"), training_file=file.id, suffix="misspell"
)
print("job:", job.id)

shown = set()
while job.status not in ("succeeded", "failed", "cancelled"):
    time.sleep(1)
    job = client.fine_tuning.jobs.retrieve(job.id)
    for event in reversed(client.fine_tuning.jobs.list_events(job.id, limit=100).data):
        if event.id not in shown:
            shown.add(event.id)
            print(event.message)

if job.status != "succeeded":
    raise SystemExit(f"{job.status}: {job.error and job.error.message}")

answer = client.chat.completions.create(
    model=job.fine_tuned_model,
    messages=[
        {"role": "system", "content": "misspell all words"},
        {"role": "user", "content": "What is the capital of Italy?"},
    ],
)
print("model:", job.fine_tuned_model)
print("answer:", answer.choices[0].message.content)
