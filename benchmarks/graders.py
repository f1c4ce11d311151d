"""How many calls of a Python grader a second: python -m benchmarks.graders [CALLS] [AT_ONCE]

Each call is a jail of its own: bubblewrap, limits, filter, a fresh Python.
"""

import statistics
import sys
import time

import anyio

from luthier.domain.graders import jail

SOURCE = """
def grade(sample, item):
    return 1.0 if sample["output_text"] == item["answer"] else 0.0
"""


async def main(calls: int, at_once: int) -> None:
    """Call, and print the rate and the median of a call."""
    took_s: list[float] = []
    left = iter(range(calls))

    async def lane() -> None:
        for _ in left:
            began = time.perf_counter()
            assert await jail.run(SOURCE, {"output_text": "x"}, {"answer": "x"}) == jail.Outcome(1.0)
            took_s.append(time.perf_counter() - began)

    began = time.perf_counter()
    async with anyio.create_task_group() as group:
        for _ in range(at_once):
            group.start_soon(lane)
    rate = calls / (time.perf_counter() - began)
    print(f"{calls} calls, {at_once} at once: {rate:.1f} a second, median {1000 * statistics.median(took_s):.0f} ms")


if __name__ == "__main__":
    anyio.run(main, *[int(word) for word in sys.argv[1:]] or (200, 16), backend="asyncio")
