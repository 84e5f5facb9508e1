"""What a peer does by itself, all the time (paper, sections 2.3 and 2.5).

Expire what has lived long enough; replicate what nobody replicated within the interval; publish again what this
peer published; refresh buckets; ping suspects; hand a joining peer its pairs.  Everything is done in small steps
with a bounded number of requests under way, so that the loop is never held for a time that grows with what is
stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, ensureDeferred, gatherResults
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from kademlia.errors import KademliaError, NoPeersReachable
from kademlia.ids import to_bytes, to_int

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from kademlia.clock import Clock, DelayedCall
    from kademlia.contact import Contact
    from kademlia.intervals import Intervals
    from kademlia.publishing import Publisher
    from kademlia.records import Record
    from kademlia.stats import Stats

#: records whose STOREs are under way at once
WINDOW = 8
#: records read from the store in one step: well under a millisecond of the loop
PAGE = 32
#: seconds between looks at which suspects may be tried again
SUSPECTS = 1.0


class Maintenance:
    """The periodic work of one peer; `start` and `stop` may be called once each."""

    log = Logger()

    def __init__(
        self, publisher: Publisher, intervals: Intervals, clock: Clock, rng: random.Random, stats: Stats
    ) -> None:
        self.publisher = publisher
        self.keeper = publisher.keeper
        self.table = publisher.table
        self.intervals = intervals
        self.clock = clock
        self.rng = rng
        self.stats = stats
        self._loops: list[LoopingCall] = []
        self._beginnings: list[DelayedCall] = []
        self._stopped = False
        self._neighbourhood_known_at = clock.seconds()
        self._joining: dict[bytes, Contact] = {}
        self._handing_over = False

    def start(self) -> None:
        """Begin the periodic work, each peer at a phase of its own so that they do not all work at once."""
        shortest = min(
            self.intervals.refresh, self.intervals.replicate, self.intervals.republish, self.intervals.expire
        )
        self._every(SUSPECTS, self.ping_suspects)
        self._every(min(60.0, shortest / 10), self.work)

    def _every(self, period: float, task: Callable[[], object]) -> None:
        loop = LoopingCall(task)
        loop.clock = self.clock  # type: ignore[assignment]  # it needs no more of IReactorTime
        self._loops.append(loop)

        def begin() -> None:
            self._beginnings.remove(beginning)
            loop.start(period, now=True)

        beginning = self.clock.callLater(period * self.rng.random(), begin)
        self._beginnings.append(beginning)

    def stop(self) -> None:
        """End the periodic work; what is under way ends with its next step."""
        self._stopped = True
        while self._beginnings:
            self._beginnings.pop().cancel()
        for loop in self._loops:
            if loop.running:
                loop.stop()

    def ping_suspects(self) -> None:
        """Ask contacts that failed whether they are back (section 4.1: with exponential back-off)."""
        for contact in self.table.retriable(self.clock.seconds()):
            self.publisher.protocol.probe(contact)

    def work(self) -> Deferred[None]:
        """Do whatever is due; fires when it is done and never fails."""
        return ensureDeferred(self._work())

    async def _work(self) -> None:
        for task in (self.expire, self.refresh, self.replicate, self.republish):
            if self._stopped:
                return
            try:
                await task()
            except NoPeersReachable:
                self.log.debug("{task}: no other peer answers", task=task.__name__)
            except KademliaError as error:
                self.log.error("{task}: {error}", task=task.__name__, error=error)
            except Exception:
                self.log.failure("{task} failed", task=task.__name__)

    async def expire(self) -> None:
        """Forget the records whose life is over."""
        self.stats.maintenance["expire"] += self.keeper.storage.expire(self.keeper.wall())

    async def refresh(self) -> None:
        """Look up a random ID in each bucket that has had no lookup for an interval (section 2.3).

        And look up the own ID, whatever else was looked up: that finds the peers which joined close by, so that
        the own subtree is known whole (section 2.5).
        """
        due = self.clock.seconds() - self.intervals.refresh
        ranges = [(bucket.lower, bucket.span) for bucket in self.table.not_looked_up_since(due)]
        if self._neighbourhood_known_at < due:
            self._neighbourhood_known_at = self.clock.seconds()
            ranges.insert(0, (self.table.own_number, 1))
        await self.refresh_ranges(ranges)

    async def refresh_ranges(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Look up a random ID of each range of IDs, given as lowest ID and size; one after the other."""
        for lower, span in list(ranges):
            if self._stopped or not len(self.table):
                return
            await self.publisher.crawl(to_bytes(lower + self.rng.randrange(span))).run()
            self.stats.maintenance["refresh"] += 1

    async def replicate(self) -> None:
        """Store again, at the k closest, the records not received within the interval (sections 2.3 and 2.5).

        Whoever comes first spares the other holders the work, since they receive it then.
        """
        while not self._stopped and len(self.table):
            # Up to a fifth later than due, by chance: otherwise all holders of a pair would come first.
            moment = self.keeper.wall() - self.intervals.replicate * (1 + self.rng.random() / 5)
            due = self.keeper.storage.received_before(moment, WINDOW)
            if not due:
                return
            await gatherResults([ensureDeferred(self._replicate(record)) for record in due])

    async def _replicate(self, record: Record) -> None:
        now = self.keeper.wall()
        if record.expires_at <= now:
            self.keeper.storage.delete(record.key)
            return
        try:
            holders = self._holders_known(record.key) or await self.publisher.holders(record.key)
            stored = await self.publisher.store(record, [holder for holder in holders if holder is not None])
            if stored.newer_at is not None:
                await self.publisher.fetch_from(stored.newer_at, record.key)
        except NoPeersReachable:
            pass  # cut off: it is due again an interval from now
        self.keeper.touch(record)
        self.stats.maintenance["replicate"] += 1

    def _holders_known(self, key: bytes) -> list[Contact | None] | None:
        """Return the k closest to a key without a lookup, where this peer is one of them.

        The own subtree is known whole (section 2.4), so the neighbours of such a key are too (section 2.5).
        """
        closest = self.publisher.with_self(key, self.table.closest(to_int(key), self.table.ksize))
        return closest if None in closest else None

    async def republish(self) -> None:
        """Publish again what this peer published an interval ago (section 2.3)."""
        while not self._stopped and len(self.table):
            due = self.keeper.storage.published_before(self.keeper.wall() - self.intervals.republish, WINDOW)
            if not due:
                return
            await gatherResults([ensureDeferred(self.publisher.republish(publication)) for publication in due])
            self.stats.maintenance["republish"] += len(due)

    # -- a peer joins ---------------------------------------------------------------------------------------------

    def joined(self, contact: Contact) -> None:
        """Hand a peer that joined the pairs it is one of the k closest for (section 2.5)."""
        if self._stopped or not self.keeper.storage.count:
            return
        self._joining[contact.id] = contact
        if not self._handing_over:
            self._handing_over = True
            self.clock.callLater(0, self._run, self._hand_over)

    def _run(self, task: Callable[[], Awaitable[None]]) -> None:
        async def logged() -> None:
            try:
                await task()
            except Exception:
                self.log.failure("{task} failed", task=task.__name__)

        ensureDeferred(logged())

    async def _hand_over(self) -> None:
        try:
            while self._joining and not self._stopped:
                _, contact = self._joining.popitem()
                await self._hand_over_to(contact)
        finally:
            self._handing_over = False

    async def _hand_over_to(self, contact: Contact) -> None:
        """Give what belongs to the contact and is closer to us than to all others: they need not do it too."""
        cell = self.table.own_cell(without=contact.id)
        async for page in self._pages(cell.lowest, cell.highest):
            mine = [record for record in page if to_int(record.key) in cell]
            given = [record for record in mine if self._belongs_to(contact, record)]
            for start in range(0, len(given), WINDOW):
                answers = await gatherResults(
                    [self.publisher.protocol.store_at(contact, record) for record in given[start : start + WINDOW]]
                )
                self.stats.maintenance["handover"] += len(answers)
                if not any(answer.happened for answer in answers):
                    return  # it has gone again

    async def _pages(self, lowest: int, highest: int) -> AsyncIterator[list[Record]]:
        """Read the records of a range of keys page by page, with other work in between."""
        after = to_bytes(lowest - 1) if lowest else None
        last = to_bytes(highest)
        while not self._stopped:
            page = self.keeper.storage.page(after, PAGE)
            yield [record for record in page if record.key <= last]
            if len(page) < PAGE or page[-1].key >= last:
                return
            after = page[-1].key
            await self._breathe()

    def _belongs_to(self, contact: Contact, record: Record) -> bool:
        """Tell whether the contact is one of the k closest to a live record."""
        if record.expires_at <= self.keeper.wall():
            return False
        closest = self.table.closest(to_int(record.key), self.table.ksize)
        return contact in self.publisher.with_self(record.key, closest)

    def _breathe(self) -> Deferred[None]:
        """Let the loop do other things before the next step."""
        turn: Deferred[None] = Deferred()
        self.clock.callLater(0, turn.callback, None)
        return turn
