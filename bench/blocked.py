"""How long one new contact holds the loop of a peer that stores much.

Every turn of the loop is measured, by the CPU time of its thread: then a machine busy with other things does not
look like a blocked loop.
"""

from __future__ import annotations

import asyncio
import gc
import time

from peers import Implementation, Size, node_ids, start

STORED = 50_000
#: peers that the busy one knows before
KNOWN = 30
#: seconds of watching after the newcomer has joined
WATCH = 5.0


class Heartbeat:
    """Runs once in every turn of the loop and keeps the longest turn."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._last = time.thread_time()
        self._handle = asyncio.get_running_loop().call_soon(self._beat)

    def _beat(self) -> None:
        now = time.thread_time()
        self.longest = max(self.longest, now - self._last)
        self._last = now
        self._handle = asyncio.get_running_loop().call_soon(self._beat)

    def stop(self) -> float:
        """Return the longest turn in milliseconds."""
        self._handle.cancel()
        return self.longest * 1000


async def measure(implementation: Implementation, size: Size) -> dict[str, float]:
    """Return the longest turn of the loop from a join through a peer that stores much."""
    if implementation.fill is None:
        raise SystemExit(f"{implementation.name}: its store cannot be filled from outside")
    *ids, newcomer = node_ids(size.seed, KNOWN + 2)
    peers = await start(implementation, ids)
    implementation.fill(peers[0], STORED)
    gc.collect()
    await asyncio.sleep(1)
    heartbeat = Heartbeat()
    await implementation.join(newcomer, peers[0])
    await asyncio.sleep(WATCH)
    return {"blocked_ms": heartbeat.stop()}
