"""Read every acknowledged key back, through peers other than the one that acknowledged it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from scenarios.workload.openloop import other_peer

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from scenarios.clock import Clock
    from scenarios.workload.client import Client
    from scenarios.workload.keys import Ledger
    from scenarios.workload.openloop import Up

#: seconds between two rounds of reading what could not be read
_PAUSE = 1.0


async def read_back(
    *,
    client: Client,
    ledger: Ledger,
    fleet: Up,
    clock: Clock,
    rng: random.Random,
    deadline: float,
    hopeless: Callable[[], set[str]],
    parallel: int = 32,
) -> list[str]:
    """Read every key until its value was returned or `deadline` has passed; return the keys left unread.

    Every key is tried at least twice, and no longer when all that is left is `hopeless` (nobody holds it).
    """
    pending = list(ledger.keys)
    rounds = 0
    while pending and fleet.up():
        pending = await _round(pending, client, ledger, fleet, clock, rng, parallel)
        rounds += 1
        if rounds >= 2 and (clock.now() + _PAUSE > deadline or set(pending) <= hopeless()):
            break
        if pending:
            await asyncio.sleep(_PAUSE)
    return pending


async def _round(
    keys: list[str], client: Client, ledger: Ledger, fleet: Up, clock: Clock, rng: random.Random, parallel: int
) -> list[str]:
    left = iter(keys)
    unread: list[str] = []

    async def one_client() -> None:
        for key in left:
            peers = fleet.up()
            if not peers:
                unread.append(key)
                continue
            peer = other_peer(peers, ledger.writer[key], rng)
            op = await client.get(key, 0, peer, phase="verify", intended=clock.now())
            if op.outcome != "ok":
                unread.append(key)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(parallel, len(keys))):
            group.create_task(one_client())
    return unread
