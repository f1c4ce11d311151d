"""A terminal's talk with a server: where it goes, a job followed aloud, a call to paste, a conversation."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from openai import OpenAI
from openai.types.fine_tuning import FineTuningJob

from luthier.cli.client import TuneOptions, connect, create_job, upload_file, wait_for
from luthier.cli.display import CONSOLE, hint, say
from luthier.cli.errors import Commands
from luthier.core.jobs import HELD_OUT
from luthier.core.json import numbered
from luthier.core.settings import find_access, load

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionMessageParam


def connect_aloud() -> OpenAI:
    """A client for the running command, and a remark where it goes when nobody said so."""
    access = find_access(load())
    if access.local:
        hint(f"server: {access.base_url} on this machine (OPENAI_BASE_URL is not set)")
    return Commands.opened.enter_context(connect(access))


def follow_aloud(client: OpenAI, job_id: str) -> FineTuningJob:
    """Follow a job with a bar; leaving it does not stop it. Errors: `JobFailed`."""
    say(f"Job {job_id}")
    try:
        return wait_for(client, job_id, progress=True)
    except KeyboardInterrupt:
        hint(f"the job goes on: luthier jobs show {job_id}; to end it: luthier jobs cancel {job_id}")
        raise


def tune_aloud(client: OpenAI, file: Path, options: TuneOptions) -> None:
    """Upload a file, tune on it, follow the job to its end, and print how to call the result."""
    uploaded = upload_file(file, client=client, progress=True)
    say(f"File {uploaded.id}")
    job = follow_aloud(client, create_job(client, uploaded.id, **options).id)
    paste(client, str(job.fine_tuned_model), file)
    if options.get("validation_file") is not None or HELD_OUT in (options.get("metadata") or {}):
        say(f"\nWas it worth it? The verdict follows: luthier compare {job.fine_tuned_model}")


def paste(client: OpenAI, model: str, data: Path) -> None:
    """Print the new model's name and a call that is ready to paste."""
    system = first_system_message(data)
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": "What is the capital of Italy?"})
    asked = f" --system {shlex.quote(system)}" if system else ""
    say(f"\nYour model: {model}\n")
    say(f'  luthier chat {model} "What is the capital of Italy?"{asked}\n')
    say("or in Python:\n")
    say("  from openai import OpenAI\n")
    say(f'  client = OpenAI(base_url="{str(client.base_url).rstrip("/")}")  # and OPENAI_API_KEY')
    say("  answer = client.chat.completions.create(")
    say(f'      model="{model}",')
    say(f"      messages={json.dumps(messages)},")
    say("  )")
    say("  print(answer.choices[0].message.content)")


def first_system_message(data: Path) -> str | None:
    """What the chats of a file are told first: a tuned model wants to hear it again."""
    _, line = next(numbered(data), (0, b"{}"))
    first = json.loads(line)
    for message in first.get("messages", []):
        if message["role"] == "system":
            return str(message["content"])
    return None


def converse(client: OpenAI, model: str, message: str | None, system: str | None) -> None:
    """One question, or with no message a conversation until the input ends."""
    messages: list[ChatCompletionMessageParam] = [{"role": "system", "content": system}] if system else []
    if message is not None:
        _ask(client, model, [*messages, {"role": "user", "content": message}])
        return
    hint("Ctrl-D ends the conversation")
    while True:
        try:
            question = CONSOLE.input("[bold]you:[/] " if CONSOLE.is_terminal else "")
        except EOFError:
            say()
            return
        if question.strip():
            messages.append({"role": "user", "content": question})
            messages.append({"role": "assistant", "content": _ask(client, model, messages)})


def _ask(client: OpenAI, model: str, messages: list[ChatCompletionMessageParam]) -> str:
    words: list[str] = []
    for chunk in client.chat.completions.create(model=model, messages=messages, stream=True):
        for choice in chunk.choices:
            if choice.delta.content:
                words.append(choice.delta.content)
                CONSOLE.print(choice.delta.content, end="", markup=False, soft_wrap=True)
    say()
    return "".join(words)
