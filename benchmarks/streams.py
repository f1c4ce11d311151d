"""Many streams open at once: chats, responses, and followers of a job's events, on a server with the echo engine.

Run by `make bench-streams` as `python -m benchmarks.streams [STREAMS]`. Every stream is open before the first ends; all
have to end as they should. Prints a table and one line of JSON; the exit status is 1 when one did not.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
import statistics
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

MODEL = "smollm2-135m-instruct"
KEY = "sk-benchmark-0123456789abcdefghijklmnopqrstuvwxyz"
STREAMS = 500
WORDS, PAUSE_S = 60, 0.5
SAID = " ".join(f"word{number}" for number in range(WORDS))
POLL_S = 1.0  # of a follower, as `luthier jobs follow` asks
BODIES = {
    "/v1/chat/completions": ({"messages": [{"role": "user", "content": SAID}]}, b"data: [DONE]"),
    "/v1/responses": ({"input": SAID, "store": False}, b"event: response.completed"),
}


@dataclass
class Found:
    """What the streams saw. `open` is how many are under way, `most` how many were at once."""

    open: int = 0
    most: int = 0
    pieces: int = 0
    first_s: list[float] = field(default_factory=list)
    polled_s: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)


async def follow_stream(port: int, path: str, found: Found) -> None:
    """Read one stream to its end."""
    body, end = BODIES[path]
    reader, writer = await _asked(port, "POST", path, {"model": MODEL, "stream": True, **body})
    began, first, ended = time.perf_counter(), 0.0, False
    status = (await reader.readline()).strip()
    async for line in reader:
        if line.startswith(b"data: ") and not first:
            first = time.perf_counter() - began
            found.open += 1
            found.most = max(found.most, found.open)
        found.pieces += line.startswith(b"data: ")
        ended = ended or line.startswith(end)
    writer.close()
    if status != b"HTTP/1.1 200 OK" or not ended:
        found.errors[f"{path}: {status.decode()}{'' if ended else ', without its end'}"] += 1
    found.open -= bool(first)
    found.first_s.append(first)


async def follow_events(port: int, job_id: str, found: Found, done: asyncio.Event) -> None:
    """Ask for a job's events, again and again, as who follows it does."""
    found.open += 1
    while not done.is_set():
        began = time.perf_counter()
        reader, writer = await _asked(port, "GET", f"/v1/fine_tuning/jobs/{job_id}/events?limit=20", None)
        answer = await reader.read()
        writer.close()
        if not answer.startswith(b"HTTP/1.1 200 OK") or b"Created fine-tuning job" not in answer:
            found.errors[f"events: {answer[:40]!r}"] += 1
        found.polled_s.append(time.perf_counter() - began)
        await asyncio.sleep(POLL_S)
    found.open -= 1


async def counted(stream: Coroutine[None, None, None], found: Found) -> None:
    """A connection that breaks is an error like any other."""
    try:
        await stream
    except ConnectionError as error:
        found.errors[repr(error)] += 1


async def _asked(
    port: int, method: str, path: str, body: dict[str, object] | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    content = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n"
    writer.write(f"{head}content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n".encode() + content)
    return reader, writer


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[int, int]]:
    """`luthier serve` with an echo that takes its time; its port and process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="luthier-streams-") as data:
        settings = {"LUTHIER_API_KEY": KEY, "LUTHIER_ENGINE": "echo", "LUTHIER_CACHE": data}
        command = ["-m", "benchmarks.streams", "serve", "--data", data, "--port", str(port)]
        process = await asyncio.create_subprocess_exec(
            sys.executable, *command, env={**os.environ, **settings}, stdout=DEVNULL, stderr=DEVNULL
        )
        try:
            while process.returncode is None:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                except OSError:
                    await asyncio.sleep(0.2)
            yield port, process.pid
        finally:
            process.terminate()
            await process.wait()


def _rss_mb(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() >> 20


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _job(port: int) -> str:
    boundary = "--x\r\nContent-Disposition: form-data; name="
    fields = f'{boundary}"purpose"\r\n\r\nfine-tune\r\n{boundary}"file"; filename="a.jsonl"'
    form = f"{fields}\r\n\r\n{{}}\r\n--x--\r\n".encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n"
    kind = f"content-type: multipart/form-data; boundary=x\r\ncontent-length: {len(form)}\r\n\r\n"
    writer.write((head + kind).encode() + form)
    file = json.loads((await reader.read()).partition(b"\r\n\r\n")[2])
    body: dict[str, object] = {"model": MODEL, "training_file": file["id"]}
    reader, _ = await _asked(port, "POST", "/v1/fine_tuning/jobs", body)
    return str(json.loads((await reader.read()).partition(b"\r\n\r\n")[2])["id"])


async def main(streams: int) -> int:
    """Open them all, and say how they fared."""
    found, done = Found(), asyncio.Event()
    followers = streams // 5
    async with serving() as (port, pid):
        job_id = await _job(port)
        before_mb, before_s, began = _rss_mb(pid), _cpu_s(pid), time.perf_counter()
        following = [
            asyncio.create_task(counted(follow_events(port, job_id, found, done), found)) for _ in range(followers)
        ]
        paths = list(BODIES)
        reading = [
            asyncio.create_task(counted(follow_stream(port, paths[n % len(paths)], found), found))
            for n in range(streams - followers)
        ]
        most_mb = before_mb
        while not all(task.done() for task in reading):
            await asyncio.sleep(0.5)
            most_mb = max(most_mb, _rss_mb(pid))
        took_s = time.perf_counter() - began
        done.set()
        await asyncio.gather(*reading, *following)
        said = {
            "streams": streams,
            "open_at_once": found.most,
            "errors": found.errors.total(),
            "seconds": round(took_s, 1),
            "least_seconds": WORDS * PAUSE_S,
            "events": found.pieces,
            "first_event_ms": [round(q * 1000) for q in _percentiles(found.first_s)],
            "events_asked_ms": [round(q * 1000) for q in _percentiles(found.polled_s)],
            "server_cpu_s": round(_cpu_s(pid) - before_s, 1),
            "server_mb": [before_mb, most_mb],
        }
    print(f"{streams} streams, {found.most} of them open at once: {followers} follow a job's events, the others")
    print(f"get {WORDS} words, one each {PAUSE_S} s. {said['errors']} errors {dict(found.errors) or ''}")
    print(f"  all ended after   {said['seconds']} s, {said['least_seconds']:.0f} of them pauses")
    print(f"  first event       {said['first_event_ms']} ms (median, 99th percentile)")
    print(f"  a job's events    {said['events_asked_ms']} ms, asked {len(found.polled_s):,} times")
    print(f"  server            {said['server_cpu_s']} s of CPU; {before_mb} MB before, {most_mb} MB at most")
    print(json.dumps(said))
    return int(bool(found.errors) or found.most < streams)


def _percentiles(values: list[float]) -> tuple[float, float]:
    cuts = statistics.quantiles(values, n=100)
    return cuts[49], cuts[98]


def _serve() -> None:
    from luthier.cli.main import app
    from luthier.engines.echo import Echo
    from luthier.engines.pool import FACTORIES

    FACTORIES["echo"] = lambda _wanted: Echo(pause_s=PAUSE_S)
    app(sys.argv[1:])


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        _serve()
    else:
        sys.exit(asyncio.run(main(int(sys.argv[1]) if sys.argv[1:] else STREAMS)))
