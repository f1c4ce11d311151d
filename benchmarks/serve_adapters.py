"""Many adapters on one base, as this machine's engine serves them: `make bench-serve`.

Prints a table: 16 streams over 16 adapters against 16 over one, how long a new adapter takes to go live while 16
streams run, how many of 200 adapters answer, what each costs in memory. Adapters are random, of the trained shape.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from contextlib import aclosing
from pathlib import Path

import numpy as np

from luthier.core.json import JsonObject
from luthier.core.run import AdapterShape
from luthier.core.settings import load
from luthier.data.base_folder import BaseFolder
from luthier.data.tensors import Stored, read_tensors, write_tensors
from luthier.domain.bases import Bases
from luthier.engines.base import Adapter
from luthier.engines.gguf_header import read_header
from luthier.engines.llamacpp import LlamaCpp
from luthier.engines.lora_gguf import adapter_gguf

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
            os.link(folder / f"a{number % STREAMS}" / "adapter.gguf", path / "adapter.gguf")
            continue
        random = np.random.default_rng(number)
        tensors: dict[str, Stored] = {}
        for module, (rows, columns) in targets.items():
            for side, size in (("A", (shape.rank, columns)), ("B", (rows, shape.rank))):
                values = random.standard_normal(size).astype(np.float32) * np.float32(0.01)
                raw = values.reshape(-1).view(np.uint8)
                tensors[f"base_model.model.{module}.lora_{side}.weight"] = Stored("F32", size, raw)
        write_tensors(path / "adapter_model.safetensors", tensors)
        (path / "adapter_config.json").write_text(f'{{"r": {shape.rank}, "lora_alpha": {shape.alpha}}}')
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
    text = Path(f"/proc/{generation.server._process.pid}/smaps_rollup").read_text()
    kilobytes = sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Private"))
    return kilobytes / 1024, len(generation.places)


async def stream(engine: LlamaCpp, adapter: Adapter | None, tokens: int) -> list[float]:
    """When each piece came."""
    async with aclosing(engine.stream("chat/completions", body(tokens), adapter)) as chunks:
        return [time.perf_counter() async for chunk in chunks if chunk["choices"]]


async def throughput(engine: LlamaCpp, adapters: list[Adapter]) -> float:
    """Tokens a second of 16 streams; the first round warms up."""
    started = 0.0
    for tokens in (4, TOKENS):
        started = time.perf_counter()
        await asyncio.gather(*(stream(engine, adapters[i % len(adapters)], tokens) for i in range(STREAMS)))
    return STREAMS * TOKENS / (time.perf_counter() - started)


async def measure(base: BaseFolder, adapters: list[Adapter]) -> list[tuple[str, str]]:
    """The table's rows."""
    engine = LlamaCpp(base)
    found: list[tuple[str, str]] = []
    try:
        await asyncio.gather(*(stream(engine, None, 4) for _ in range(STREAMS)))
        await asyncio.sleep(6)  # meanwhile it grows to all its slots
        await stream(engine, None, 4)
        plain, _ = serving(engine)
        one = await throughput(engine, adapters[:1])
        many = await throughput(engine, adapters[:STREAMS])
        found.append(("16 streams over one adapter", f"{one:.0f} tokens/s"))
        found.append(("16 streams over 16 adapters", f"{many:.0f} tokens/s ({many / one:.0%})"))
        running = [asyncio.create_task(stream(engine, adapter, 3 * TOKENS)) for adapter in adapters[:STREAMS]]
        await asyncio.sleep(2)
        started = time.perf_counter()
        live = (await stream(engine, adapters[STREAMS], 4))[0] - started
        gaps = [max(np.diff(times)) for times in await asyncio.gather(*running)]
        found.append(("a new adapter's first piece, 16 streams running", f"{live:.2f} s"))
        found.append(("longest stall of these streams", f"{max(gaps):.2f} s; {len(gaps)} of {STREAMS} ended well"))
        started = time.perf_counter()
        asked = [stream(engine, adapter, 4) for adapter in adapters]
        said = sum(len(times) > 1 for times in await asyncio.gather(*asked))
        found.append(
            (f"{len(adapters)} adapters asked at once", f"{said} answer in {time.perf_counter() - started:.0f} s")
        )
        now, known = serving(engine)
        found.append(("memory beyond the base", f"{(now - plain) / known:.1f} MB an adapter, {known} loaded"))
    finally:
        await engine.close()
    return found


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--adapters", type=int, default=200)
    given = parser.parse_args()
    settings = load()
    base = Bases(settings.cache, settings.bases, settings.added_bases).pull(settings.default_base)
    with tempfile.TemporaryDirectory(prefix="luthier-bench-") as folder:
        for name, value in asyncio.run(measure(base, make_adapters(base, Path(folder), given.adapters))):
            print(f"{name:50} {value}")


if __name__ == "__main__":
    main()
