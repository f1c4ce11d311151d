"""Several calls or streams as one; the first failure, or leaving, ends them all. Knows no engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

T = TypeVar("T")


async def all_of(calls: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """All results, in order."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


def merged(streams: Sequence[AsyncGenerator[T, None]]) -> AsyncGenerator[T, None]:
    """All items as they come; a single stream as it is."""
    return streams[0] if len(streams) == 1 else _merged(streams)


async def _merged(streams: Sequence[AsyncGenerator[T, None]]) -> AsyncGenerator[T, None]:
    arrived: asyncio.Queue[T | None] = asyncio.Queue()
    tasks = [asyncio.ensure_future(_pump(stream, arrived)) for stream in streams]
    try:
        running = len(tasks)
        while running:
            item = await arrived.get()
            if item is not None:
                yield item
                continue
            running -= 1
            for task in tasks:
                if task.done():
                    task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pump(stream: AsyncGenerator[T, None], arrived: asyncio.Queue[T | None]) -> None:
    try:
        async with aclosing(stream):
            async for item in stream:
                arrived.put_nowait(item)
    finally:
        # After this task is done, so that its failure is seen with it.
        asyncio.get_running_loop().call_soon(arrived.put_nowait, None)
