"""Sets and gets, first with every peer alive, then with 30 % of them killed.

All peers are in one process and on one loop (OpenDHT's have threads of their own).  Times are of the wall clock;
CPU is that of the whole process.  Operations are given up after `PATIENCE`, and a sequential phase starts no more
of them after `PHASE`, so that nothing hangs.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any

from peers import KSIZE, Implementation, Peer, Size, digest, node_ids, start

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

AT_ONCE = 50
DEAD = 0.3
#: seconds from the last join to the first operation: some implementations go on joining in the background
SETTLE = 2.0
#: seconds
PATIENCE = 60.0
PHASE = 180.0

Timed = tuple[float, Any]


def percentile(done: Sequence[Timed], rank: float) -> float:
    """Return the milliseconds at or below which `rank` (0 to 1) of the operations took."""
    ordered = sorted(took for took, _ in done)
    return ordered[min(len(ordered) - 1, int(rank * len(ordered)))]


async def timed(operation: Awaitable[Any]) -> Timed:
    """Return how many milliseconds an operation took, and its outcome; None when patience ran out."""
    begin = time.perf_counter()
    outcome = None
    try:
        async with asyncio.timeout(PATIENCE):
            outcome = await operation
    except TimeoutError:
        pass
    return (time.perf_counter() - begin) * 1000, outcome


async def one_by_one(count: int, operation: Callable[[int], Awaitable[Any]]) -> list[Timed]:
    """Do numbered operations one after another, as many as a phase has time for."""
    end = time.perf_counter() + PHASE
    done: list[Timed] = []
    for number in range(count):
        if time.perf_counter() > end:
            break
        done.append(await timed(operation(number)))
    return done


async def at_once(count: int, operation: Callable[[int], Awaitable[Any]]) -> list[Timed]:
    """Do numbered operations, at most `AT_ONCE` of them under way; each is timed from its own start."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> Timed:
        async with gate:
            return await timed(operation(number))

    return await asyncio.gather(*[one(number) for number in range(count)])


class Client:
    """Chooses who writes and who reads: with the same seed the same peers in every implementation."""

    def __init__(self, peers: list[Peer], seed: int) -> None:
        self.live = peers
        self.everybody = peers
        self.rng = random.Random(seed)

    async def kill(self, share: float) -> None:
        """Kill some of the peers."""
        victims = self.rng.sample(self.everybody, int(len(self.everybody) * share))
        self.live = [peer for peer in self.everybody if peer not in victims]
        for victim in victims:
            await victim.kill()

    async def set(self, key: str) -> bool:
        """Write by any live peer."""
        return await self.rng.choice(self.live).set(key, f"value of {key}".encode())

    async def get(self, key: str) -> bool:
        """Read by a live peer that does not hold the key; tell whether the value came."""
        target = int.from_bytes(digest(key), "big")
        ranked = sorted(self.everybody, key=lambda peer: int.from_bytes(peer.node_id, "big") ^ target)
        holders = ranked[:KSIZE]
        others = [peer for peer in self.live if peer not in holders]
        shuffled = self.rng.sample(others, len(others))
        reader = next((peer for peer in shuffled if not peer.holds(key)), shuffled[0])
        return await reader.get(key) == f"value of {key}".encode()

    async def miss(self, key: str) -> bool:
        """Read, by any live peer, what nobody wrote; tell whether nothing came."""
        return await self.rng.choice(self.live).get(key) is None


async def measure(implementation: Implementation, size: Size) -> dict[str, float]:
    """Return the figures of one repetition."""
    client = Client(await start(implementation, node_ids(size.seed, size.peers)), size.seed)
    await asyncio.sleep(SETTLE)
    figures = await all_alive(client, size.keys)
    await client.kill(DEAD)
    return figures | await some_dead(client, min(size.keys, size.dead_keys))


async def all_alive(client: Client, keys: int) -> dict[str, float]:
    """Return the figures of a network in which everybody answers."""
    cpu = time.process_time()
    sets = await one_by_one(keys, lambda n: client.set(f"one {n}"))
    cpu = time.process_time() - cpu
    begin = time.perf_counter()
    more = await at_once(keys, lambda n: client.set(f"many {n}"))
    sets_took = time.perf_counter() - begin
    gets = await one_by_one(keys, lambda n: client.get(f"one {n}"))
    begin = time.perf_counter()
    misses = await one_by_one(keys, lambda n: client.miss(f"missing {n}"))
    misses_took = time.perf_counter() - begin
    return {
        "set_cpu_ms": cpu * 1000 / len(sets),
        "sets_per_s": len(more) / sets_took,
        "get_p50_ms": percentile(gets, 0.5),
        "get_p99_ms": percentile(gets, 0.99),
        "misses_per_s": len(misses) / misses_took,
        "wrong": sum(not right for _, right in [*sets, *more, *gets, *misses]),
    }


async def some_dead(client: Client, keys: int) -> dict[str, float]:
    """Return the figures of a network in which some were killed a moment ago."""
    gets = await one_by_one(keys, lambda n: client.get(f"one {n}"))
    more = await at_once(keys, lambda n: client.get(f"many {n}"))
    sets = await at_once(keys, lambda n: client.set(f"late {n}"))
    return {
        "dead_get_p50_ms": percentile(gets, 0.5),
        "dead_get_p99_ms": percentile(gets, 0.99),
        "dead_lost": sum(not right for _, right in [*gets, *more]),
        "dead_gets_p99_ms": percentile(more, 0.99),
        "dead_sets_p95_ms": percentile(sets, 0.95),
        "dead_refused": sum(not done for _, done in sets),
    }
