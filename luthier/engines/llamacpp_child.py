"""The child process that holds llama.cpp: `python -m luthier.engines.llamacpp_child`.

It reads one line of JSON (`ServerSpec`) from its input, serves by llama.cpp on a Unix socket, prints one line
with its address, and ends when its input ends: a parent that dies, however it dies, takes it along. It imports next to
nothing: a new adapter waits for it.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from luthier.core.machine import NICENESS

if TYPE_CHECKING:
    import xllamacpp


@dataclass(frozen=True)
class ServerSpec:
    """What to serve and how. `adapters` are GGUF files; a request names them by their place in this list."""

    model: str
    adapters: list[str]
    slots: int
    context_tokens: int  # of each slot
    api_key: str
    socket: str  # a file yet to be, whose name ends in .sock: by that llama.cpp knows it
    embeds: bool = False


def main() -> None:
    """Serve until the input ends."""
    import xllamacpp

    os.nice(NICENESS)
    spec = ServerSpec(**json.loads(sys.stdin.readline()))
    try:
        server = xllamacpp.Server(parameters(spec))
    except RuntimeError as error:
        sys.exit(f"llama.cpp did not start: {error}")
    sys.stdout.write(json.dumps({"address": server.listening_address}) + "\n")
    sys.stdout.flush()
    sys.stdin.read()
    with suppress(OSError):
        os.unlink(spec.socket)
        os.rmdir(os.path.dirname(spec.socket))
    os._exit(0)  # nothing is to be finished, and the server's own ending waits for its streams


def parameters(spec: ServerSpec) -> xllamacpp.CommonParams:
    """llama.cpp's parameters. Sampling defaults are OpenAI's: the model's own distribution."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = spec.model
    params.hostnames = [spec.socket]
    params.api_keys = [spec.api_key]
    params.ui = False
    params.endpoint_slots = False
    params.warmup = False
    params.fit_params = False  # it loads the model twice to find out what fits; the caller's plan fits
    params.verbosity = 1
    params.n_parallel = spec.slots
    params.n_ctx = spec.slots * spec.context_tokens
    params.cache_ram_mib = 0  # its cache of prompts in memory does not know which adapter made them
    # Scale 0 is what a request gets that names no adapter.
    params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(path, 0.0) for path in spec.adapters]
    params.lora_init_without_apply = True
    params.sampling.temp = 1.0
    params.sampling.top_p = 1.0
    params.sampling.top_k = 0
    params.sampling.min_p = 0.0
    # OpenAI, like transformers and vLLM, cuts by top_p what the temperature has already shaped.
    params.sampling.samplers = "penalties;temperature;top_p"
    if spec.embeds:
        params.embedding = True
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
        params.n_batch = params.n_ubatch = spec.context_tokens  # a text is embedded in one piece
    return params


if __name__ == "__main__":
    main()
