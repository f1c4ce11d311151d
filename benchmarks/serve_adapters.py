"""Many adapters on one base, as this machine's engine serves them: `make bench-serve`, and for vLLM `bench-vllm`.

Prints a table: 16 streams over 16 adapters against 16 over one, how long a new adapter takes to go live while 16
streams run, how many of 200 adapters answer, what each costs in llama.cpp's memory; for vLLM, what its own server does
when it is asked for the base without Luthier. Adapters are random, of the trained shape.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import numpy as np

from luthier.core.json import Json, JsonObject
from luthier.core.run import AdapterShape
from luthier.core.settings import load
from luthier.data.base_folder import BaseFolder
from luthier.data.tensors import Stored, read_tensors, write_tensors
from luthier.domain.bases import Bases
from luthier.engines.base import Adapter, Engine
from luthier.engines.gguf_header import read_header
from luthier.engines.llamacpp import LlamaCpp
from luthier.engines.lora_gguf import adapter_gguf
from luthier.engines.vllm import Vllm

STREAMS = 16
TOKENS = 48


def make_adapters(base: BaseFolder, folder: Path, count: int) -> list[Adapter]:
    """Adapters of the trained shape, small enough that the model still speaks: sixteen contents, linked."""
    shape = AdapterShape.of(base.read_facts().architecture)
    modules = {name.removesuffix(".weight"): tensor.shape for name, tensor in read_tensors(base.hf).items()}
    targets = {name: size for name, size in modules.items() if name.rpartition(".")[2] in shape.modules}
    made: list[Adapter] = []
    for number in range(count):
        path = folder / f"a{number}"
        path.mkdir()
        made.append(Adapter(path.name, path))
        if number >= STREAMS:
            for file in (folder / f"a{number % STREAMS}").iterdir():
                os.link(file, path / file.name)
            continue
        random = np.random.default_rng(number)
        tensors: dict[str, Stored] = {}
        for module, (rows, columns) in targets.items():
            for side, size in (("A", (shape.rank, columns)), ("B", (rows, shape.rank))):
                values = random.standard_normal(size).astype(np.float32) * np.float32(0.01)
                raw = values.reshape(-1).view(np.uint8)
                tensors[f"base_model.model.{module}.lora_{side}.weight"] = Stored("F32", size, raw)
        write_tensors(path / "adapter_model.safetensors", tensors)
        told = {"peft_type": "LORA", "r": shape.rank, "lora_alpha": shape.alpha, "target_modules": shape.modules}
        (path / "adapter_config.json").write_text(json.dumps(told))
        adapter_gguf(path, read_header(base.gguf))
    return made


def body(tokens: int) -> JsonObject:
    """A chat whose answer goes on for so many tokens."""
    messages: JsonObject = {"messages": [{"role": "user", "content": "Tell me about the sea."}]}
    return {**messages, "max_tokens": tokens, "temperature": 0, "logit_bias": {"2": -100}}


def serving(engine: LlamaCpp) -> tuple[float, int]:
    """What the engine's server holds in megabytes, files that are shared left out, and how many adapters it knows."""
    generation = engine._fleet._current
    assert generation is not None
    text = Path(f"/proc/{generation.server.pid}/smaps_rollup").read_text()
    kilobytes = sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Private"))
    return kilobytes / 1024, len(generation.places)


async def stream(engine: Engine, adapter: Adapter | None, tokens: int) -> list[float]:
    """When each piece came."""
    async with aclosing(engine.stream("chat/completions", body(tokens), adapter)) as chunks:
        return [time.perf_counter() async for chunk in chunks if chunk["choices"]]


async def bare(engine: Vllm, tokens: int) -> list[float]:
    """When each piece came of the base's answer to the same tokens, asked of vLLM itself."""
    serving = await engine._server.serving()
    prompt: Json = list(await engine.tokenize(body(tokens), None))
    asked = {**body(tokens), "model": serving.model, "prompt": prompt, "ignore_eos": True, "stream": True}
    del asked["messages"]
    async with aclosing(serving.api.stream("/completions", asked)) as chunks:
        return [time.perf_counter() async for _ in chunks]


async def rate(asked: Callable[[int, int], Awaitable[list[float]]], streams: int) -> str:
    """Tokens a second of so many streams, and the median time to the first; the first round warms up."""
    for tokens in (4, TOKENS):
        started = time.perf_counter()
        times = await asyncio.gather(*(asked(number, tokens) for number in range(streams)))
        took_s = time.perf_counter() - started
    first_s = statistics.median(found[0] for found in times) - started
    return f"{streams * TOKENS / took_s:6.1f} tokens/s, first after {first_s:.2f} s"


async def measure(engine: LlamaCpp | Vllm, adapters: list[Adapter]) -> AsyncIterator[tuple[str, str]]:
    """The table's rows."""
    await asyncio.gather(*(stream(engine, None, 4) for _ in range(STREAMS)))
    await asyncio.sleep(6)  # meanwhile llama.cpp grows to all its slots
    await stream(engine, None, 4)
    plain, _ = serving(engine) if isinstance(engine, LlamaCpp) else (0.0, 0)
    for streams in (1, STREAMS):
        if isinstance(engine, Vllm):
            yield f"base, {streams} streams, vLLM's bare server", await rate(lambda _, n: bare(engine, n), streams)
        yield f"base, {streams} streams", await rate(lambda _, n: stream(engine, None, n), streams)
        yield f"one adapter, {streams} streams", await rate(lambda _, n: stream(engine, adapters[0], n), streams)
    yield "16 adapters, 16 streams", await rate(lambda i, n: stream(engine, adapters[i], n), STREAMS)
    running = [asyncio.create_task(stream(engine, adapter, 3 * TOKENS)) for adapter in adapters[:STREAMS]]
    await asyncio.sleep(2)
    started = time.perf_counter()
    live = (await stream(engine, adapters[STREAMS], 4))[0] - started
    gaps = [max(np.diff(times)) for times in await asyncio.gather(*running)]
    yield "a new adapter's first piece, 16 streams running", f"{live:.2f} s"
    yield "longest stall of these streams", f"{max(gaps):.2f} s; {len(gaps)} of {STREAMS} ended well"
    started = time.perf_counter()
    said = sum(len(times) > 1 for times in await asyncio.gather(*(stream(engine, one, 4) for one in adapters)))
    yield f"{len(adapters)} adapters asked at once", f"{said} answer in {time.perf_counter() - started:.0f} s"
    if isinstance(engine, LlamaCpp):
        now, known = serving(engine)
        yield "memory beyond the base", f"{(now - plain) / known:.1f} MB an adapter, {known} loaded"


async def table(engine: LlamaCpp | Vllm, adapters: list[Adapter]) -> None:
    """Print each row when it is known."""
    try:
        async for name, value in measure(engine, adapters):
            print(f"{name:50} {value}", flush=True)
    finally:
        await engine.close()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--adapters", type=int, default=200)
    parser.add_argument("--vllm", metavar="FOLDER", help="an environment with vLLM, to serve instead of llama.cpp")
    given = parser.parse_args()
    settings = load()
    base = Bases(settings.cache, settings.bases, settings.added_bases).pull(settings.default_base)
    with tempfile.TemporaryDirectory(prefix="luthier-bench-") as folder:
        adapters = make_adapters(base, Path(folder), given.adapters)
        vllm = Vllm(base, given.vllm, adapters=Path(folder)) if given.vllm else None
        asyncio.run(table(vllm or LlamaCpp(base), adapters))


if __name__ == "__main__":
    main()
