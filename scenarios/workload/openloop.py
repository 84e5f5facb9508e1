"""Load at a stated rate.

The loop is open: the moment of every operation is fixed before the run, and latency counts from that moment, so
a network that stalls shows it in the latencies instead of slowing the load down.  Starts that cannot be made,
because too many operations are in flight, are recorded as missed; the rate is never lowered in silence.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import random
    from collections.abc import Coroutine, Sequence

    from scenarios.clock import Clock
    from scenarios.history import HistoryWriter
    from scenarios.history.model import Op
    from scenarios.workload.client import Client
    from scenarios.workload.keys import KeyChooser, Ledger

#: attempts to write one key in the preload phase, each through another peer
PRELOAD_ATTEMPTS = 3


class Up(Protocol):
    """Which peers a client believes to be up, by name."""

    def up(self) -> Sequence[str]:
        """Return their names."""
        ...


@dataclass(frozen=True, slots=True)
class Mix:
    """What the load consists of."""

    #: operations a second
    rate: float
    #: fraction of gets; the others are puts of new keys
    reads: float
    popularity: KeyChooser
    #: starts are missed while this many operations are in flight
    max_in_flight: int = 2000


async def run_open_loop(
    mix: Mix,
    *,
    client: Client,
    ledger: Ledger,
    fleet: Up,
    history: HistoryWriter,
    clock: Clock,
    rng: random.Random,
    stop: asyncio.Event,
) -> None:
    """Run until `stop` is set, then until what is in flight has ended.

    When cancelled, what is in flight is cancelled and recorded as it stands.
    """
    begin = clock.now()
    flying: set[asyncio.Task[Op]] = set()
    step = 1.0 / mix.rate
    count = 0
    try:
        while not stop.is_set():
            # Counted at once, and what cannot be made is skipped at once: a rate beyond this machine's strength
            # must not keep the loop from everything else.
            due_until_now = int((clock.now() - begin) / step + 1e-9) + 1
            while count < due_until_now:
                due = begin + count * step
                peers = fleet.up()
                if len(flying) >= mix.max_in_flight or not peers:
                    history.missed(due, due_until_now - count)
                    client.tally.missed += due_until_now - count
                    count = due_until_now
                    break
                count += 1
                task = asyncio.create_task(_operation(mix, client, ledger, peers, rng, due))
                flying.add(task)
                task.add_done_callback(flying.discard)
            await clock.sleep_until(begin + count * step)
        if flying:
            await asyncio.wait(flying)
    finally:
        for task in flying:
            task.cancel()
        await asyncio.gather(*flying, return_exceptions=True)


def _operation(
    mix: Mix, client: Client, ledger: Ledger, peers: Sequence[str], rng: random.Random, due: float
) -> Coroutine[None, None, Op]:
    """Draw the next operation; called in the order of intended starts, whatever the order of the answers."""
    reads = rng.random() < mix.reads
    if reads and ledger.keys:
        key = ledger.keys[mix.popularity(rng, len(ledger.keys))]
        return client.get(key, 0, other_peer(peers, ledger.writer[key], rng), phase="workload", intended=due)
    return client.put(ledger.new_key(), 0, peers[int(rng.random() * len(peers))], phase="workload", intended=due)


def other_peer(peers: Sequence[str], writer: str, rng: random.Random) -> str:
    """Return a random peer other than the writer, or the writer when it is the only one."""
    index = int(rng.random() * len(peers))
    if peers[index] == writer and len(peers) > 1:
        index = (index + 1 + int(rng.random() * (len(peers) - 1))) % len(peers)
    return peers[index]


async def preload(
    keys: int, *, client: Client, ledger: Ledger, fleet: Up, clock: Clock, rng: random.Random, parallel: int = 32
) -> int:
    """Write `keys` new keys as fast as `parallel` clients can; return how many were acknowledged."""
    left = iter(range(keys))
    acknowledged = 0

    async def one_client() -> None:
        nonlocal acknowledged
        for _ in left:
            key = ledger.new_key()
            for _attempt in range(PRELOAD_ATTEMPTS):
                peers = fleet.up()
                peer = peers[int(rng.random() * len(peers))]
                op = await client.put(key, 0, peer, phase="preload", intended=clock.now())
                if op.outcome == "ok":
                    acknowledged += 1
                    break

    async with asyncio.TaskGroup() as group:
        for _ in range(min(parallel, keys)):
            group.create_task(one_client())
    return acknowledged
