"""vLLM's server as a child of Luthier's, with vLLM's own arguments: `python -m luthier_vllm --model FOLDER …`.

It ends, and all that it started, when its input ends: a parent that dies, however it dies, takes it along. All that it
says goes to stderr.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading


def main() -> None:
    """Serve until the input ends."""
    os.dup2(2, 1)
    threading.Thread(target=_end_with_input, daemon=True).start()
    sys.argv = ["vllm", *sys.argv[1:], *_for_this_machine()]
    runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__")


def _for_this_machine() -> list[str]:
    """vLLM would halve float32 weights to bfloat16 on any CPU; on one without instructions for it, that is slower."""
    import torch
    from vllm.platforms import current_platform

    if current_platform.is_cpu() and not torch.cpu._is_avx512_bf16_supported():
        return ["--dtype", "float32"]
    return []


def _end_with_input() -> None:
    sys.stdin.buffer.read()
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    main()
