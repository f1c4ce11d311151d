"""What Luthier adds to llama.cpp: time to first token and tokens per second, through Luthier and straight.

Both serve the same model with as many slots, in processes of their own, and are asked in turns in one run; in front of
each llama.cpp stands the same relay, which stamps when a question gets there and when its first text leaves. What is
left of a time to first token without what passed between the stamps is the way there and back: of the two sides'
difference llama.cpp's own time, which is far longer and depends on when in a step of its a question comes, is no part.

Each stream asks one question after another, keeps its connection as clients do (llama.cpp closes it after a stream),
and pauses before each question for up to two of llama.cpp's steps with all slots busy. `--pause 0`: each answer's end
is the next question, and who comes within the few milliseconds in which llama.cpp samples all slots is let into its
next step, who comes later waits for a whole one: a race that no user runs. Run by `make bench-serve`; the base model
is fetched where it is missing. Prints a table and one line of JSON.
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
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.relay import Relay, relaying
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
ROUNDS = {1: 24, 16: 10}  # by the number of streams: short ones in turns, for a machine has its faster minutes
QUESTIONS = 2  # of a stream in a round


@dataclass(frozen=True)
class Answer:
    """Milliseconds to the first text, those of them that were not llama.cpp's but the way's, and pieces of text."""

    first_ms: float
    way_ms: float
    pieces: int


@dataclass(frozen=True)
class Round:
    """Answers, and tokens per second of all streams together."""

    answers: list[Answer]
    tokens_per_s: float


class Stream:
    """A client that asks one question after another. It keeps its connection where the server does."""

    def __init__(self, address: str, relay: Relay) -> None:
        self._url = urlsplit(address)
        self._relay = relay
        self._reader = asyncio.StreamReader()
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, number: str, text: str, tokens: int) -> Answer:
        """Stream one answer. The question's number must be no other's at the time."""
        body = json.dumps(
            {
                "model": MODEL,
                "messages": [{"role": "user", "content": f"Question {number}: {text}"}],
                "max_tokens": tokens,
                "temperature": 0,
                "logit_bias": {END_OF_TURN: -100},
                "stream": True,
            }
        ).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: {self._url.netloc}\r\nauthorization: Bearer {KEY}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        started = time.perf_counter()
        if self._writer is None or self._reader.at_eof():
            self.close()
            self._reader, self._writer = await asyncio.open_connection(self._url.hostname, self._url.port)
        self._writer.write(head.encode() + body)
        first, pieces = 0.0, 0
        while (line := await self._reader.readline()) not in (b"0\r\n", b""):  # the last chunk
            if b'"content":"' in line and b'"content":""' not in line:
                first = first or time.perf_counter()
                pieces += 1
        await self._reader.readline()
        if not pieces:
            raise SystemExit(f"{self._url.netloc} streamed no text")
        reached, left = await self._relay.stamps_of(number)
        return Answer((first - started) * 1000, (first - started - (left - reached)) * 1000, pieces)

    def close(self) -> None:
        """Disconnect."""
        if self._writer is not None:
            self._writer.close()


async def measure(address: str, relay: Relay, streams: int, tokens: int, pause_s: float, number: int) -> Round:
    """Let so many streams ask; no two questions are alike, so no prompt is cached. Both servers get the same ones."""

    async def answers_of(n: int) -> list[Answer]:
        dice = random.Random(f"{number}.{n}")
        stream = Stream(address, relay)
        answers = []
        for k in range(QUESTIONS):
            await asyncio.sleep(dice.uniform(0, pause_s))
            text = f"what is {number * n + k} times three, and why?"
            answers.append(await stream.ask(f"{number}.{n}.{k}", text, dice.randint(tokens // 2, tokens * 3 // 2)))
        stream.close()
        return answers

    started = time.perf_counter()
    answers = [answer for found in await asyncio.gather(*map(answers_of, range(streams))) for answer in found]
    took_s = time.perf_counter() - started
    return Round(answers, sum(answer.pieces for answer in answers) / took_s)


@asynccontextmanager
async def luthier(relay: Relay) -> AsyncIterator[str]:
    """`luthier serve` on a data folder of its own; gives its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    data = str(relay.folder / "data")
    command = ["-m", "benchmarks.relay", str(relay.folder), "serve", "--data", data, "--port", str(port)]
    environment = {**os.environ, "LUTHIER_API_KEY": KEY}
    process = await asyncio.create_subprocess_exec(sys.executable, *command, env=environment, stdout=DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}"
        await answering(address, relay)
        yield address
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def llamacpp(relay: Relay) -> AsyncIterator[None]:
    """llama.cpp's own server, with the slots that Luthier's grows to, behind the relay under our key."""
    gguf = Bases(settings.load().cache).pull(MODEL).gguf
    plan = plan_for(read_header(gguf), memory_bytes())
    spec = ServerSpec(str(gguf), [], plan.most_slots, plan.context_tokens, KEY, str(relay.folder / "straight.sock"))
    (relay.folder / KEY).symlink_to(spec.socket)
    command = ["-m", "luthier.engines.llamacpp_child"]
    environment = {**os.environ, **PATIENCE}
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, env=environment, stdin=PIPE, stdout=PIPE, stderr=DEVNULL
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(asdict(spec)).encode() + b"\n")
    try:
        await process.stdout.readline()  # it serves
        yield
    finally:
        process.stdin.close()
        await process.wait()


async def answering(address: str, relay: Relay) -> None:
    """Wait until a server answers."""
    for _ in range(300):
        try:
            await Stream(address, relay).ask("0", "hello", 2)
            return
        except (OSError, SystemExit):
            await asyncio.sleep(0.2)
    raise SystemExit(f"{address} does not answer")


async def compare(servers: dict[str, str], relay: Relay, tokens: int, pause_s: float) -> dict[str, list[float]]:
    """A table of both, and what the one adds to the other, in milliseconds and percents, with its 95 % interval."""
    for number in range(3):  # until both have all their slots, warm
        for address in servers.values():
            await measure(address, relay, max(ROUNDS), 20, pause_s, number)
        await asyncio.sleep(5)
    added: dict[str, list[float]] = {}
    print(f"{'streams':>7} {'server':>10} {'first token, ms':>16} {'there and back, ms':>19} {'tokens/s':>9}")
    for streams, rounds in ROUNDS.items():
        made: dict[str, list[Round]] = {name: [] for name in servers}
        for number in range(rounds):
            for name in sorted(servers, reverse=bool(number % 2)):
                made[name].append(await measure(servers[name], relay, streams, tokens, pause_s, 10 + number))
        answers = {name: [answer for r in found for answer in r.answers] for name, found in made.items()}
        tokens_per_s = {name: statistics.mean(r.tokens_per_s for r in found) for name, found in made.items()}
        for name, given in answers.items():
            first, way = (statistics.mean(ms) for ms in zip(*((a.first_ms, a.way_ms) for a in given), strict=True))
            print(f"{streams:>7} {name:>10} {first:>16.1f} {way:>19.1f} {tokens_per_s[name]:>9.1f}")
        pairs = list(zip(answers["luthier"], answers["llama.cpp"], strict=True))
        for what in "way_ms", "first_ms":
            added[f"added_{what}_{streams}"] = spread([getattr(a, what) - getattr(b, what) for a, b in pairs])
        shares = zip(made["luthier"], made["llama.cpp"], strict=True)
        added[f"lost_percent_{streams}"] = spread([100 - 100 * a.tokens_per_s / b.tokens_per_s for a, b in shares])
    return added


def spread(values: list[float]) -> list[float]:
    """Their mean, and the ends of its 95 % interval."""
    found = interval(values, least=min(values), most=max(values))
    return [round(value, 1) for value in (found.mean, found.low, found.high)]


async def main() -> None:
    """Ask both, and print what the one adds to the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=100, help="of an answer, on average")
    parser.add_argument("--pause", type=float, default=0.4, help="the longest before a question, in seconds")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        async with relaying(Path(folder)) as relay, luthier(relay) as ours, llamacpp(relay):
            servers = {"luthier": ours, "llama.cpp": relay.address}
            print(json.dumps(await compare(servers, relay, options.tokens, options.pause)))


if __name__ == "__main__":
    asyncio.run(main())
