"""What the run believes of each peer: which are up and may be used by clients, and since when."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from scenarios.clock import Clock
    from scenarios.history import HistoryWriter
    from scenarios.testbed.model import Peer

_PROBE_TIMEOUT = aiohttp.ClientTimeout(total=2.0)
#: seconds between two questions to a peer that is starting
_POLL = 0.1


async def wait_healthy(session: aiohttp.ClientSession, peer: Peer) -> None:
    """Wait until a peer says that it runs and has joined; for ever, if it never does."""
    while True:
        try:
            async with session.get(f"{peer.url}/healthz", timeout=_PROBE_TIMEOUT) as response:
                if response.status == 200:
                    return
        except (aiohttp.ClientError, OSError, TimeoutError):
            pass
        await asyncio.sleep(_POLL)


class Fleet:
    """The believed state of every peer; every change goes to the history.

    "up" means that `/healthz` said so after the last fault on the peer was healed: clients use these.
    "starting" is a peer whose process was started and that has not joined yet.  Everything else is the name that
    a fault gives to the state it leaves a peer in ("killed", "paused", …).
    """

    def __init__(
        self, peers: Sequence[Peer], session: aiohttp.ClientSession, clock: Clock, history: HistoryWriter
    ) -> None:
        self.peers: Mapping[str, Peer] = {peer.name: peer for peer in peers}
        self._session = session
        self._clock = clock
        self._history = history
        self._states: dict[str, str] = {}
        self._up: tuple[str, ...] = ()
        self._watchers: dict[str, asyncio.Task[None]] = {}

    def up(self) -> Sequence[str]:
        """Return the names of the peers that clients may use, in the order of the topology."""
        return self._up

    def down(self) -> dict[str, str]:
        """Return the state, by name, of every peer that is not up."""
        return {name: state for name, state in self._states.items() if state != "up"}

    def set(self, name: str, state: str) -> None:
        """Note that a peer is in this state from now on."""
        if self._states.get(name) == state:
            return
        self._states[name] = state
        self._up = tuple(n for n in self.peers if self._states.get(n) == "up")
        self._history.state(self._clock.now(), name, state)

    async def _await_up(self, name: str) -> None:
        await wait_healthy(self._session, self.peers[name])
        self.set(name, "up")

    def starting(self, name: str) -> None:
        """Note that a peer's process was started; it counts as up as soon as it says so."""
        self.set(name, "starting")
        self.forget(name)
        self._watchers[name] = asyncio.create_task(self._await_up(name))

    def forget(self, name: str) -> None:
        """Stop waiting for a peer: a fault is about to be injected on it."""
        watcher = self._watchers.pop(name, None)
        if watcher is not None:
            watcher.cancel()

    async def wait_up(self, names: Iterable[str], limit: float, *, again: bool = False) -> list[str]:
        """Wait until all these peers are up, `limit` seconds at most; return those that are not.

        `again` asks those, too, that are believed to be up: one may have died without a fault of ours.
        """
        tasks = {
            name: asyncio.create_task(self._await_up(name))
            for name in names
            if again or self._states.get(name) != "up"
        }
        try:
            if tasks:
                await asyncio.wait(tasks.values(), timeout=limit)
            return [
                name
                for name, task in tasks.items()
                if not task.done() and (again or self._states.get(name) != "up")
            ]
        finally:
            for task in tasks.values():
                task.cancel()

    async def close(self) -> None:
        """Stop watching."""
        watchers = list(self._watchers.values())
        self._watchers.clear()
        for task in watchers:
            task.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)
