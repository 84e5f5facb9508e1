"""Finding pairs (paper, section 2.3), and fetching those that do not fit into an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from kademlia.crawling import Crawl, Found, Step, value_in
from kademlia.errors import NoPeersReachable
from kademlia.ids import to_int
from kademlia.parts import MAX_VALUE, Parts, is_large
from kademlia.records import Record, Value
from kademlia.widening import widen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Set

    from kademlia.contact import Contact
    from kademlia.protocol import KademliaProtocol

#: seconds after which no further holder is tried: each may take its time before it proves useless
PATIENCE = 90.0


class Fetched(NamedTuple):
    """A value that the network has."""

    value: Value
    #: 0 from a plain peer
    version: int
    #: requests in a row until the holder answered; 0 when this peer holds it
    hops: int


class Reader:
    """The reader's side of a peer."""

    def __init__(self, protocol: KademliaProtocol, ksize: int, alpha: int) -> None:
        self._protocol = protocol
        self._keeper = protocol.keeper
        self._ksize = ksize
        self._alpha = alpha

    async def fetch(self, key: bytes, on_step: Callable[[Step], None] | None = None) -> Fetched | None:
        """Find the value of a 20-byte key, or None where the network has none.

        `on_step` is told of every step of the lookup; there is none where this peer is a holder.  Raises
        `NoPeersReachable` when peers are known and none of them answers, or when no holder gave a large value
        whole: that says nothing about the value.
        """
        record = self._keeper.get(key)
        if record is not None and not self._may_be_old(record):
            return Fetched(record.value, record.version, 0)
        started = self._protocol.clock.seconds()

        def tell(step: Step) -> None:
            if on_step is not None:  # several lookups are shown as one
                on_step(step._replace(at=self._protocol.clock.seconds() - started))

        failed: set[bytes] = set()
        for thorough in (False, True):
            crawl, silent = await self._look(key, tell, failed, thorough=thorough, insistent=record is None)
            if silent and record is None and not failed:
                raise NoPeersReachable("no other peer answers; check the bootstrap addresses and the network")
            newer = [found for found in crawl.found if record is None or found.order > record.order]
            fetched = await self._newest(key, newer, crawl, failed, tell)
            if fetched is not None:
                return fetched
            if not failed or self._protocol.clock.seconds() - started > PATIENCE:
                break
        if record is not None:
            return Fetched(record.value, record.version, 0)
        if failed:
            raise NoPeersReachable(
                "no holder that was met gave the whole value; try again, or raise [storage] max_value for it"
            )
        return None

    def _may_be_old(self, record: Record) -> bool:
        """Tell whether a newer value may have passed this peer by: in its absence, or as it is no holder any more.

        Nobody tells a peer that is not one of the k closest, and has a cached copy or had the pair before others
        joined.
        """
        if self._keeper.doubts(record):
            return bool(len(self._protocol.table))
        number = to_int(record.key)
        size = record.size if record.version and is_large(record.value) else 0
        closest = self._protocol.closest(number, size)
        own = self._protocol.table.own_number ^ number
        return len(closest) == self._ksize and to_int(closest[-1].id) ^ number < own

    def _suspects(self, crawl: Crawl, asked: Set[bytes]) -> list[Contact]:
        """Return the suspects that would be among the k closest and were not asked: they may be back unnoticed."""
        target, closest = crawl.lookup.target, crawl.lookup.closest()
        farthest = to_int(closest[-1].id) ^ target if len(closest) == self._ksize else None
        suspects = [
            contact
            for contact in self._protocol.table.suspects(target)
            if farthest is None or to_int(contact.id) ^ target < farthest
        ]
        return [contact for contact in suspects[: self._ksize] if contact.id not in asked]

    async def _newest(
        self, key: bytes, met: list[Found], crawl: Crawl, failed: set[bytes], tell: Callable[[Step], None]
    ) -> Fetched | None:
        """Return the newest of the values met that its holder gives whole; holders that do not are `failed`."""
        started = self._protocol.clock.seconds()
        for found in sorted(met, key=lambda found: found.order, reverse=True):
            value = await self._whole(key, found, tell, crawl)
            if value is not None:
                self._cache(key, value, found, crawl)
                return Fetched(value, found.version or 0, crawl.lookup.hops_to(found.holder))
            failed.add(found.holder.id)
            if self._protocol.clock.seconds() - started > PATIENCE:
                break
        return None

    async def _look(
        self,
        key: bytes,
        on_step: Callable[[Step], None],
        avoided: Set[bytes],
        *,
        thorough: bool,
        insistent: bool,
    ) -> tuple[Crawl, bool]:
        """Return a finished lookup, and whether nobody answered.

        `insistent`: suspects are asked, too, where nothing is found.  Large values are at the k closest that take
        them.  Where stock peers are closer, a second lookup passes them over.
        """
        asked: set[bytes] = set()

        def note(step: Step) -> None:
            if step.event == "asked":
                asked.add(step.contact.id)
            on_step(step)

        async def crawled(size: int, seeds: Iterable[Contact] = ()) -> Crawl:
            crawl = Crawl(self._protocol, key, self._ksize, self._alpha, "find_value", size, seeds)
            crawl.on_step, crawl.avoided, crawl.thorough = note, avoided, thorough
            await crawl.run()
            return crawl

        crawl = await crawled(0)
        if insistent and not crawl.found and (suspects := self._suspects(crawl, asked)):
            crawl = await crawled(0, suspects)
        closest = crawl.lookup.closest()
        silent = not crawl.found and crawl.lookup.requests > 0 and not closest
        speakers = self._protocol.transfers.speakers
        if not crawl.found and any(map(speakers.refuses, closest)):
            size = MAX_VALUE + 1
            crawl = await crawled(size)
            met = {contact.id for contact in crawl.lookup.closest()}
            wider = await widen(self._protocol, crawl, self._ksize, self._alpha, size) if not crawl.found else []
            if any(contact.id not in met for contact in wider):
                crawl = await crawled(size, wider)
        return crawl, silent

    async def _whole(
        self, key: bytes, found: Found, tell: Callable[[Step], None] | None = None, crawl: Crawl | None = None
    ) -> Value | None:
        """Return the value found; of a large one, what its holder gives, None where that is not all of it."""
        if not isinstance(found.value, Parts):
            return found.value
        value = await self._protocol.transfers.fetch(found.holder, key, found.version or 0, found.value)
        if tell is not None and crawl is not None:
            event = "broken" if value is None else "fetched"
            distance = to_int(found.holder.id) ^ to_int(key)
            tell(Step(0.0, event, found.holder, distance, crawl.lookup.hops_to(found.holder), 0))
        return value

    def _cache(self, key: bytes, value: Value, found: Found, crawl: Crawl) -> None:
        """Store a found value at the closest peer that answered without it (section 2.3).

        Among the k closest that repairs a replica, which gets the life that is left; farther away it is a cache
        entry, whose life halves with each peer in between.
        """
        for older in crawl.found:
            if found.version and older.order < found.order:
                now = self._keeper.wall()
                record = Record(key, value, found.version, now + found.life, now)
                self._protocol.store_at(older.holder, record, "repair")
        excluded = {other.holder.id for other in crawl.found}
        if is_large(value):
            speakers, met = self._protocol.transfers.speakers, [c.contact for c in crawl.lookup.candidates]
            excluded |= {contact.id for contact in met if speakers.refuses(contact)}
        place = crawl.lookup.closest_without(excluded)
        if place is None:
            return
        contact, rank = place
        life = found.life if rank < self._ksize else found.life * 0.5 ** (rank - self._ksize + 1)
        now = self._keeper.wall()
        self._protocol.store_at(contact, Record(key, value, found.version or 0, now + life, now), "cache")

    async def fetch_from(self, contact: Contact, key: bytes, version: int = 0) -> bool:
        """Take over a record from a holder that said it has this version; tell whether so new a one is held then.

        A version that is not believed is not taken.
        """
        answer: Any = await self._protocol.ask(contact, "find_value", key)
        found = value_in(answer, contact, self._keeper.expire)
        if found is not None and found.version is not None and self._keeper.believes(found.version):
            value = await self._whole(key, found)
            if value is not None:
                self._keeper.accept(key, value, found.version, found.life)
        held = self._keeper.get(key)
        return held is not None and held.version >= version
