"""Crawl every live peer's `/storage`, and compare actual holders with the closest live peers."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import aiohttp

from scenarios.errors import PhaseFailed
from scenarios.history.model import Census
from scenarios.probes.placement import Placement, closest, node_numbers
from scenarios.workload.keys import key_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from scenarios.clock import Clock
    from scenarios.engine.fleet import Fleet
    from scenarios.history import HistoryWriter
    from scenarios.workload.keys import Ledger

_PAGE = 10000
_TIMEOUT = aiohttp.ClientTimeout(total=15.0)
#: how many of the worst placed keys a record names
_WORST = 20


#: what a peer says: its node ID, and the SHA-1 of every value by digest (None where it does not say)
Answer = tuple[str, dict[str, str | None]]


class CensusTaker:
    """Counts copies of the acknowledged keys; remembers the last count.

    Only a copy of the bytes that were written counts: `fingerprint` gives their SHA-1, and what a peer says of a
    value is compared with it.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        clock: Clock,
        history: HistoryWriter,
        fleet: Fleet,
        ledger: Ledger,
        *,
        ksize: int,
        fingerprint: Callable[[str], str],
    ) -> None:
        self._fingerprint = fingerprint
        self._fingerprints: dict[str, str] = {}
        self._session = session
        self._clock = clock
        self._history = history
        self._fleet = fleet
        self._ledger = ledger
        self._ksize = ksize
        self.last: Census | None = None

    async def _ask(self, name: str) -> Answer | None:
        """Return node ID and what is held, or None when the peer does not answer as it should."""
        root = self._fleet.peers[name].url
        values: dict[str, str | None] = {}
        try:
            async with self._session.get(f"{root}/status", timeout=_TIMEOUT) as response:
                node_id = str((await response.json())["id"])
                int(node_id, 16)
            after: str | None = ""
            while after is not None:
                page = f"{root}/storage?limit={_PAGE}" + (f"&after={after}" if after else "")
                async with self._session.get(page, timeout=_TIMEOUT) as response:
                    answer = await response.json()
                values.update((entry["key"], entry.get("value_sha1")) for entry in answer["keys"])
                after = answer["next"]
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return node_id, values

    async def take(self, *, full: bool = False) -> Census:
        """Crawl, record and return; a `full` record names every holder of every key."""
        start = self._clock.now()
        keys = list(self._ledger.keys)
        asked = list(self._fleet.up())
        answers = dict(zip(asked, await asyncio.gather(*map(self._ask, asked)), strict=True))
        # A peer that a fault took away in the meantime is no longer live: its copies do not count.
        live = {name: answer for name, answer in answers.items() if name in self._fleet.up()}
        # In a thread: a hundred thousand keys take a second, in which the load must go on.
        census = await asyncio.to_thread(self._compare, start, self._clock.now(), keys, live)
        self.last = census
        self._history.census(census if full else replace(census, holders=None, wrong={}))
        return census

    def _compare(self, start: float, end: float, keys: Sequence[str], live: Mapping[str, Answer | None]) -> Census:
        """Return the census of these answers."""
        nodes = {name: answer[0] for name, answer in live.items() if answer is not None}
        by_digest: dict[str, list[tuple[str, str | None]]] = {}
        for name, answer in live.items():
            for digest, sha1 in answer[1].items() if answer is not None else ():
                by_digest.setdefault(digest, []).append((name, sha1))
        holders: dict[str, list[str]] = {}
        wrong: dict[str, list[str]] = {}
        for key in keys:
            written = self._fingerprints.get(key) or self._fingerprints.setdefault(key, self._fingerprint(key))
            copies = by_digest.get(key_digest(key), ())
            holders[key] = [name for name, sha1 in copies if sha1 in {None, written}]
            if len(holders[key]) < len(copies):
                wrong[key] = [name for name, sha1 in copies if sha1 not in {None, written}]
        placement = Placement(keys, holders, nodes, self._ksize)
        worst = sorted(placement.missing, key=lambda key: len(holders[key]))[:_WORST]
        silent = [name for name, answer in live.items() if answer is None]
        placed, copies_ = placement.placed, placement.copies
        return Census(start, end, nodes, silent, len(keys), self._ksize, placed, copies_, worst, holders, wrong)

    async def holders_of(self, key_index: int) -> list[str]:
        """Return the live holders of the n-th acknowledged key, closest first."""
        census = await self.take()
        if key_index >= census.keys or census.holders is None:
            raise PhaseFailed(f"only {census.keys} keys were acknowledged: there is no key number {key_index + 1}")
        key = self._ledger.keys[key_index]
        order = closest(node_numbers(census.nodes), int(key_digest(key), 16), len(census.nodes))
        held = census.holders[key]
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
    return census.complete and (census.deficient <= census.homeless or not census.nodes)


def homeless_keys(census: Census, everyone: Sequence[str]) -> set[str]:
    """Return the keys that nobody holds for certain: every peer of the testbed answered, and none has them."""
    if census.holders is None or set(census.nodes) != set(everyone):
        return set()
    return {key for key, held in census.holders.items() if not held}
