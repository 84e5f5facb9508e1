"""Resident memory of a process with one peer in it, and of each further peer in the same process."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import TYPE_CHECKING

from peers import Implementation, Size, node_ids, start

if TYPE_CHECKING:
    from collections.abc import Sequence

#: peers in the process between which the slope is taken
FEW, MANY = 50, 150
SETTLE = 1.0


def resident(pid: int | str = "self") -> float:
    """Return the KiB of memory that a process occupies (VmRSS)."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return float(status.partition("VmRSS:")[2].split()[0])


async def measure(implementation: Implementation, size: Size) -> dict[str, float]:
    """Return both figures.  A further peer includes what the others then know of it."""
    first, *ids = node_ids(size.seed, MANY)

    async def grow(more: Sequence[bytes]) -> float:
        peers.extend(await start(implementation, list(more), via=peers[0]))
        await asyncio.sleep(SETTLE)
        gc.collect()
        return resident()

    peers = await start(implementation, [first])
    alone = await grow([])
    few = await grow(ids[: FEW - 1])
    many = await grow(ids[FEW - 1 :])
    return {"process_mib": alone / 1024, "peer_kib": (many - few) / (MANY - FEW)}
