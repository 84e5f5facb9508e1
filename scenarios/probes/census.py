"""Crawl every live peer's `/storage`, and compare actual holders with the closest live peers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp

from scenarios.history.model import Census
from scenarios.probes.placement import Placement, closest, node_numbers
from scenarios.workload.keys import key_digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scenarios.clock import Clock
    from scenarios.engine.fleet import Fleet
    from scenarios.history import HistoryWriter
    from scenarios.workload.keys import Ledger

_PAGE = 10000
_TIMEOUT = aiohttp.ClientTimeout(total=15.0)
#: how many of the worst placed keys a record names
_WORST = 20


class CensusTaker:
    """Counts copies of the acknowledged keys; remembers the last count."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        clock: Clock,
        history: HistoryWriter,
        fleet: Fleet,
        ledger: Ledger,
        *,
        ksize: int,
    ) -> None:
        self._session = session
        self._clock = clock
        self._history = history
        self._fleet = fleet
        self._ledger = ledger
        self._ksize = ksize
        self.last: Census | None = None

    async def _ask(self, name: str) -> tuple[str, set[str]] | None:
        """Return node ID and digests held, or None when the peer does not answer as it should."""
        root = self._fleet.peers[name].url
        digests: set[str] = set()
        try:
            async with self._session.get(f"{root}/status", timeout=_TIMEOUT) as response:
                node_id = str((await response.json())["id"])
                int(node_id, 16)
            after: str | None = ""
            while after is not None:
                page = f"{root}/storage?limit={_PAGE}" + (f"&after={after}" if after else "")
                async with self._session.get(page, timeout=_TIMEOUT) as response:
                    answer = await response.json()
                digests.update(entry["key"] for entry in answer["keys"])
                after = answer["next"]
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError, TypeError):
            return None
        return node_id, digests

    async def take(self, *, full: bool = False) -> Census:
        """Crawl, record and return; a `full` record names every holder of every key."""
        start = self._clock.now()
        keys = list(self._ledger.keys)
        asked = list(self._fleet.up())
        answers = dict(zip(asked, await asyncio.gather(*map(self._ask, asked)), strict=True))
        # A peer that a fault took away in the meantime is no longer live: its copies do not count.
        live = {name: answer for name, answer in answers.items() if name in self._fleet.up()}
        nodes = {name: answer[0] for name, answer in live.items() if answer is not None}
        by_digest: dict[str, list[str]] = {}
        for name, answer in live.items():
            for digest in answer[1] if answer is not None else ():
                by_digest.setdefault(digest, []).append(name)
        holders = {key: by_digest.get(key_digest(key), []) for key in keys}
        placement = Placement(keys, holders, nodes, self._ksize)
        census = Census(
            start,
            self._clock.now(),
            nodes,
            [name for name, answer in live.items() if answer is None],
            len(keys),
            self._ksize,
            placement.placed,
            placement.copies,
            sorted(placement.missing, key=lambda key: len(holders[key]))[:_WORST],
            holders,
        )
        self.last = census
        if not full:
            census = Census(
                census.start,
                census.end,
                census.nodes,
                census.silent,
                census.keys,
                census.ksize,
                census.placed,
                census.copies,
                census.worst,
            )
        self._history.census(census)
        return census

    async def holders_of(self, key_index: int) -> list[str]:
        """Return the live holders of the n-th acknowledged key, closest first."""
        await self.take()
        assert self.last is not None and self.last.holders is not None  # noqa: S101, PT018 - take() has set both
        key = self._ledger.keys[key_index]
        order = closest(node_numbers(self.last.nodes), int(key_digest(key), 16), len(self.last.nodes))
        held = self.last.holders[key]
        return [name for name in order if name in held]

    async def watch(self, every: float) -> None:
        """Take a census again and again, until cancelled; crawling takes at most a fifth of the time."""
        while True:
            census = await self.take()
            await asyncio.sleep(max(every, 4 * (census.end - census.start)))

    async def repaired(self, limit: float, every: float = 0.5) -> float | None:
        """Wait until every key with a holder is on all of its closest live peers; None after `limit` seconds."""
        start = self._clock.now()
        while True:
            census = await self.take()
            if is_repaired(census):
                return census.end - start
            pause = max(every, 2 * (census.end - census.start))
            if self._clock.now() + pause - start > limit:
                return None
            await asyncio.sleep(pause)


def is_repaired(census: Census) -> bool:
    """Whether nothing is left that waiting could repair: keys without any holder are lost, not under repair."""
    return census.complete and census.deficient <= census.homeless


def homeless_keys(census: Census, everyone: Sequence[str]) -> set[str]:
    """Return the keys that nobody holds for certain: every peer of the testbed answered, and none has them."""
    if census.holders is None or set(census.nodes) != set(everyone):
        return set()
    return {key for key, held in census.holders.items() if not held}
