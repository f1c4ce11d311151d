"""Talk with a model; its words appear as it finds them. `python chat.py MODEL [SYSTEM]`, Ctrl-D ends."""

import sys

from openai import OpenAI

if len(sys.argv) < 2:
    raise SystemExit(__doc__)

client = OpenAI()
messages = [{"role": "system", "content": system} for system in sys.argv[2:3]]
for line in sys.stdin:
    messages.append({"role": "user", "content": line.strip()})
    words = []
    for chunk in client.chat.completions.create(model=sys.argv[1], messages=messages, stream=True):
        for choice in chunk.choices:
            words.append(choice.delta.content or "")
            print(words[-1], end="", flush=True)
    print()
    messages.append({"role": "assistant", "content": "".join(words)})
