"""What a peer does by itself, all the time (paper, sections 2.3 and 2.5).

Expire what has lived long enough; replicate what nobody replicated within the interval; publish again what this
peer published; refresh buckets; ping suspects; have records confirmed after an absence.  Everything is done with a
bounded number of requests under way, so that the loop is never held for a time that grows with what is stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, ensureDeferred, gatherResults
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from kademlia.errors import KademliaError, NoPeersReachable
from kademlia.ids import to_bytes, to_int
from kademlia.publishing import large_size

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Iterable

    from kademlia.clock import Clock, DelayedCall
    from kademlia.contact import Contact
    from kademlia.intervals import Intervals
    from kademlia.publishing import Publisher, Stored
    from kademlia.records import Record
    from kademlia.stats import Stats

#: records whose STOREs are under way at once
WINDOW = 8
#: seconds between looks at which suspects may be tried again
SUSPECTS = 1.0
#: looks missed in a row that mean this process did not run (SIGSTOP, a suspended machine)
PAUSED = 4
#: suspects pinged at one look
PROBES = 32
#: share of the refresh interval after which a silent contact is pinged
SILENCE = 1 / 6
#: share of a pair's life that is left for publishing it again: the paper's hour of 24
SPARE = 1 / 24
#: records that could not be replicated or confirmed, after which the others wait for the next look too
MAX_WAITING = 256
#: seconds from a doubt to its removal: others that were cut off too are heard from meanwhile
CONFIRM_AFTER = 0.5


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
        self._last_look = clock.seconds()
        self._confirming: DelayedCall | None = None
        #: rounds of confirming under way and asked for
        self._confirmations = 0

    def start(self) -> None:
        """Begin the periodic work, each peer at a phase of its own so that they do not all work at once."""
        if self.keeper.storage.count:
            self.doubt()  # what the store holds is from an earlier life
        self._last_look = self.clock.seconds()
        self._every(SUSPECTS, self.look_around)
        self._every(self._work_period, self.work)

    @property
    def _work_period(self) -> float:
        """Return the seconds between two looks at what is due."""
        intervals = self.intervals
        return min(60.0, min(intervals.refresh, intervals.replicate, intervals.republish, intervals.expire) / 10)

    @property
    def _republish_after(self) -> float:
        """Return the seconds after which a publication is made again: while its holders still have it.

        So the pair is never gone in between, and they tell the publisher of a newer one that replaced it.
        """
        return min(self.intervals.republish, self.intervals.expire * (1 - SPARE) - 2 * self._work_period)

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
        if self._confirming is not None:
            self._confirming.cancel()
        for loop in self._loops:
            if loop.running:
                loop.stop()

    def look_around(self) -> None:
        """Ping suspects whose back-off is over (section 4.1), and the contact that was silent for longest.

        And now and then a suspect whose back-off is not over, which shows that we are not cut off any more.
        """
        self.notice_pause()
        self._last_look = now = self.clock.seconds()
        due = self.table.retriable(now)
        by_chance = self.table.suspect_by_chance(self.rng)
        if by_chance is not None:
            self.publisher.protocol.probe(by_chance)
        for contact in due if len(due) <= PROBES else self.rng.sample(due, PROBES):
            self.publisher.protocol.probe(contact)
        silent = self.table.silent_since(now - self.intervals.refresh * SILENCE)
        if silent is not None:  # one at a time: this is to notice, within a while, that we are cut off
            self.publisher.protocol.probe(silent)

    def notice_pause(self) -> None:
        """Doubt what is held if this process was stopped and went on: the network did without it meanwhile.

        Called before a value held here is told to anybody, too: a request that came during the pause is read from
        the socket before any timer runs.
        """
        if self.clock.seconds() - self._last_look > PAUSED * SUSPECTS and self._loops and not self._stopped:
            self._last_look = self.clock.seconds()
            self.doubt()

    def work(self) -> Deferred[None]:
        """Do whatever is due; fires when it is done and never fails."""
        return ensureDeferred(self._work())

    async def _work(self) -> None:
        for task in (self.expire, self.refresh, self.replicate, self.republish):
            await self._attempt(task)

    async def _attempt(self, task: Callable[[], Awaitable[None]]) -> None:
        if self._stopped:
            return
        name = getattr(task, "__name__", "?")
        try:
            await task()
        except NoPeersReachable:
            self.log.debug("{task}: no other peer answers", task=name)
        except KademliaError as error:
            self.log.error("{task}: {error}", task=name, error=error)
        except Exception:
            self.log.failure("{task} failed", task=name)

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

        Whoever comes first spares the other holders the work, since they receive it then.  Doubted records are due
        whenever they were received.  What cannot be replicated or confirmed now waits for the next look.
        """
        waiting: set[bytes] = set()
        while not self._stopped and len(self.table) and len(waiting) < MAX_WAITING:
            # Up to a fifth later than due, by chance: otherwise all holders of a pair would come first.
            moment = self.keeper.wall() - self.intervals.replicate * (1 + self.rng.random() / 5)
            moment = max(moment, self.keeper.doubted_before)
            found = self.keeper.storage.received_before(moment, WINDOW + len(waiting))
            due = [record for record in found if record.key not in waiting]
            if not due:
                return
            outcomes = await gatherResults([ensureDeferred(self._replicate(record)) for record in due])
            if None in outcomes:
                return  # nobody answers; the next look may find somebody
            waiting |= {record.key for record, done in zip(due, outcomes, strict=True) if not done}

    async def _replicate(self, record: Record) -> bool | None:
        """Replicate one record; tell whether that is done, None where no other peer answered and one is needed."""
        if record.expires_at <= self.keeper.wall():
            self.keeper.storage.delete(record.key)
            return True
        doubted = self.keeper.doubts(record)
        try:
            holders = None if doubted else self._holders_known(record)
            if holders is None:
                holders = await self.publisher.holders(record)
        except NoPeersReachable:
            return None
        others = [holder for holder in holders if holder is not None]
        stored = await self.publisher.store(record, others, "replicate")
        needed = bool(others) or (doubted and self.table.ksize > 1)
        if needed and not stored.replicas and not stored.full and not stored.newer_at:
            return None
        self.stats.maintenance["replicate"] += 1
        if stored.newer_at:
            if await self._take_over(record, stored):
                self.confirm_soon()  # if what was doubted was replaced, what is held now is
            return False
        if doubted and stored.replicas + (None in holders) < self._quorum(record):
            return False
        self.keeper.touch(record)
        return True

    async def _take_over(self, record: Record, stored: Stored) -> bool:
        """Fetch what is newer from the holders that have it, until one gave the newest; tell whether one did."""
        for contact in stored.newer_at:
            if await self.publisher.fetch_from(contact, record.key, stored.newest):
                return True
        return False

    def _quorum(self, record: Record) -> int:
        """Return how many of the k closest must have a doubted record, this peer included, for it to be confirmed.

        More than half of them, the silent ones included: whoever came back with us may have been away as well, but
        a part of the network that is cut off does not have the majority.  A contact that was silent for as long as
        a pair lives counts no more.
        """
        since = self.clock.seconds() - self.intervals.expire
        known = [e.contact for e in self.table.entries() if not e.suspect or e.last_seen > since]
        if size := large_size(record):
            known = self.publisher.protocol.transfers.speakers.without_refusers(known, size)
        return min(self.table.ksize, len(known) + 1) // 2 + 1

    def _holders_known(self, record: Record) -> list[Contact | None] | None:
        """Return the k closest to a record without a lookup, where this peer is one of them.

        The own subtree is known whole (section 2.4), so the neighbours of such a key are too (section 2.5).  A
        large record needs to know, too, that all of them take it.
        """
        closest = self.publisher.with_self(record.key, self.publisher.protocol.closest(to_int(record.key)))
        if None not in closest:
            return None
        speakers, size = self.publisher.protocol.transfers.speakers, large_size(record)
        return closest if all(c is None or not size or speakers.takes(c, size) for c in closest) else None

    async def republish(self) -> None:
        """Publish again what this peer published an interval ago (section 2.3).

        What nobody stored is due again after a work period, behind the others.
        """
        while not self._stopped and len(self.table):
            moment = self.keeper.wall() - self._republish_after
            due = self.keeper.storage.published_before(moment, WINDOW)
            if not due:
                return
            again = moment + self._work_period
            await gatherResults([ensureDeferred(self.publisher.republish(item, again)) for item in due])
            self.stats.maintenance["republish"] += len(due)

    # -- doubt ----------------------------------------------------------------------------------------------------

    def doubt(self) -> None:
        """Doubt every record held: this peer was away, and newer publications may have passed it by.

        Until a record is confirmed, a reader is told that it is doubted and asks the other holders too.  Records
        are confirmed by replicating them after a lookup: a holder with a newer one says so, and more than half of
        the k closest must have the same (see `_quorum`).
        """
        self.keeper.doubted_before = self.keeper.wall()
        self.confirm_soon()

    def confirm_soon(self) -> None:
        """Have doubted records confirmed before long, if there are any."""
        doubted = self.keeper.storage.received_before(self.keeper.doubted_before, 1)
        if doubted and not self._stopped and self._confirming is None:
            self._confirming = self.clock.callLater(CONFIRM_AFTER * (1 + self.rng.random()), self._confirm)

    def _confirm(self) -> None:
        self._confirming = None
        self._confirmations += 1
        if self._confirmations == 1:
            ensureDeferred(self._confirm_doubted())

    async def _confirm_doubted(self) -> None:
        """Confirm one round at a time: what is asked for meanwhile is one more round, however often it was."""
        while self._confirmations:
            self._confirmations = 1
            await self._attempt(self.replicate)
            self._confirmations -= 1
