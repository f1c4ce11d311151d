"""What Luthier adds to llama.cpp: time to first token and tokens per second, through Luthier and straight.

Both serve the same model with as many slots, in processes of their own, and are asked in turns in one run. Each stream
asks one question after another, answers are of different lengths, and before each question it pauses for up to two of
llama.cpp's steps with all slots busy, so that streams come and go as they do in use. `--pause 0`: each answer's end is
the next question, and who comes within the few milliseconds in which llama.cpp samples all slots is let into its next
step, who comes later waits for a whole one: a race that no user runs. Run by `make bench-serve`; the base model must be
there (`luthier models pull`). Prints a table and one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import socket
import statistics
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit

from luthier.core import settings
from luthier.core.machine import memory_bytes
from luthier.core.verdict.statistics import interval
from luthier.domain.bases import Bases
from luthier.engines.gguf_header import read_header
from luthier.engines.llamacpp import plan_for
from luthier.engines.llamacpp_child import ServerSpec
from luthier.engines.llamacpp_process import PATIENCE

MODEL = "smollm2-135m-instruct"
END_OF_TURN = "2"  # its token, made impossible so that every answer is as long
KEY = "sk-benchmark-0123456789abcdefghijklmnopqrstuvwxyz"
ROUNDS = {1: 12, 16: 4}  # by the number of streams
QUESTIONS = 4  # of a stream in a round


@dataclass(frozen=True)
class Round:
    """Times to the first text of each answer, and tokens per second of all streams together."""

    first_ms: list[float]
    tokens_per_s: float


async def ask(address: str, question: str, tokens: int) -> tuple[float, int]:
    """Stream one answer over a plain socket: seconds to the first text, and pieces of text."""
    url = urlsplit(address)
    body = json.dumps(
        {
            "model": MODEL,
            "messages": [{"role": "user", "content": question}],
            "max_tokens": tokens,
            "temperature": 0,
            "logit_bias": {END_OF_TURN: -100},
            "stream": True,
        }
    ).encode()
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    started = time.perf_counter()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: {url.netloc}\r\nauthorization: Bearer {KEY}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    writer.write(head.encode() + body)
    first, pieces = 0.0, 0
    async for line in reader:
        if b'"content":"' in line and b'"content":""' not in line:
            first = first or time.perf_counter() - started
            pieces += 1
    writer.close()
    if not pieces:
        raise SystemExit(f"{address} streamed no text")
    return first, pieces


async def measure(address: str, streams: int, tokens: int, pause_s: float, number: int) -> Round:
    """Let so many streams ask; no two questions are alike, so no prompt is cached. Both servers get the same ones."""

    async def stream(n: int) -> list[tuple[float, int]]:
        dice = random.Random(f"{number}.{n}")
        answers = []
        for k in range(QUESTIONS):
            await asyncio.sleep(dice.uniform(0, pause_s))
            question = f"Question {number}.{n}.{k}: what is {number * n + k} times three, and why?"
            answers.append(await ask(address, question, dice.randint(tokens // 2, tokens * 3 // 2)))
        return answers

    started = time.perf_counter()
    answers = [answer for found in await asyncio.gather(*map(stream, range(streams))) for answer in found]
    took_s = time.perf_counter() - started
    return Round([first * 1000 for first, _ in answers], sum(pieces for _, pieces in answers) / took_s)


@asynccontextmanager
async def luthier() -> AsyncIterator[str]:
    """`luthier serve` on a data folder of its own; gives its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with tempfile.TemporaryDirectory() as data:
        command = ["-m", "luthier.cli.main", "serve", "--data", data, "--port", str(port)]
        environment = {**os.environ, "LUTHIER_API_KEY": KEY}
        process = await asyncio.create_subprocess_exec(sys.executable, *command, env=environment, stdout=DEVNULL)
        try:
            address = f"http://127.0.0.1:{port}"
            await answering(address)
            yield address
        finally:
            process.terminate()
            await process.wait()


@asynccontextmanager
async def llamacpp() -> AsyncIterator[str]:
    """llama.cpp's own server, with the slots that Luthier's grows to; gives its address."""
    gguf = Bases(settings.load().cache).get(MODEL).gguf
    plan = plan_for(read_header(gguf), memory_bytes())
    spec = ServerSpec(str(gguf), [], slots=plan.most_slots, context_tokens=plan.context_tokens, api_key=KEY)
    command = ["-m", "luthier.engines.llamacpp_child"]
    environment = {**os.environ, **PATIENCE}
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, env=environment, stdin=PIPE, stdout=PIPE, stderr=DEVNULL
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(asdict(spec)).encode() + b"\n")
    try:
        yield str(json.loads(await process.stdout.readline())["address"])
    finally:
        process.stdin.close()
        await process.wait()


async def answering(address: str) -> None:
    """Wait until a server answers."""
    for _ in range(300):
        try:
            await ask(address, "hello", 2)
            return
        except (OSError, SystemExit):
            await asyncio.sleep(0.2)
    raise SystemExit(f"{address} does not answer")


async def main() -> None:
    """Ask both, and print what the one adds to the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=100, help="of an answer, on average")
    parser.add_argument("--pause", type=float, default=0.4, help="the longest before a question, in seconds")
    options = parser.parse_args()
    tokens, pause_s = options.tokens, options.pause
    added: dict[str, float | list[float]] = {}  # milliseconds: mean, and the ends of its 95 % interval
    async with luthier() as ours, llamacpp() as theirs:
        servers = {"luthier": ours, "llama.cpp": theirs}
        for number in range(3):  # until both have all their slots, warm
            for address in servers.values():
                await measure(address, max(ROUNDS), 20, pause_s, number)
            await asyncio.sleep(5)
        print(f"{'streams':>7} {'server':>10} {'first token, ms':>16} {'tokens/s':>9}")
        for streams, rounds in ROUNDS.items():
            made: dict[str, list[Round]] = {name: [] for name in servers}
            for number in range(rounds):
                for name in sorted(servers, reverse=bool(number % 2)):
                    made[name].append(await measure(servers[name], streams, tokens, pause_s, 10 + number))
            firsts = {name: [ms for r in found for ms in r.first_ms] for name, found in made.items()}
            tokens_per_s = {name: statistics.median(r.tokens_per_s for r in found) for name, found in made.items()}
            for name in servers:
                print(f"{streams:>7} {name:>10} {statistics.mean(firsts[name]):>16.1f} {tokens_per_s[name]:>9.1f}")
            differences = [a - b for a, b in zip(firsts["luthier"], firsts["llama.cpp"], strict=True)]
            ms = interval(differences, least=min(differences), most=max(differences))
            added[f"added_ms_{streams}"] = [round(value, 1) for value in (ms.mean, ms.low, ms.high)]
            added[f"lost_percent_{streams}"] = round(100 - 100 * tokens_per_s["luthier"] / tokens_per_s["llama.cpp"], 1)
    print(json.dumps(added))


if __name__ == "__main__":
    asyncio.run(main())
