"""Storing pairs at the k closest peers, and finding them again (paper, section 2.3)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from twisted.internet.defer import Deferred, gatherResults

from kademlia.crawling import Crawl, Found, Step, value_in
from kademlia.errors import NoPeersReachable, QuotaExceeded, StorageError, ValueTooLarge
from kademlia.ids import to_int
from kademlia.protocol import FULL, version_in
from kademlia.records import Publication, Record, Value, encode_value, is_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kademlia.contact import Contact
    from kademlia.protocol import KademliaProtocol
    from kademlia.rpc import Answer
    from kademlia.stats import Reason

#: bytes of an encoded value that fit into a `store` request of at most 8192 bytes, which is all that rpcudp sends:
#: list and name 8, node ID and key 22 each
MAX_VALUE = 8192 - 8 - 2 * 22
#: times a publication is raised above a newer version that a holder reports before it is left to the other writer
MAX_RAISES = 3


class Published(NamedTuple):
    """A publication that the network acknowledged."""

    digest: bytes
    version: int
    #: holders that acknowledged, the publisher included where it is one of the k closest
    replicas: int
    #: holders asked
    asked: int


class Fetched(NamedTuple):
    """A value that the network has."""

    value: Value
    #: 0 from a plain peer
    version: int
    #: requests in a row until the holder answered; 0 when this peer holds it
    hops: int


class Stored(NamedTuple):
    """The outcome of one round of STOREs."""

    replicas: int
    #: holders whose store is full
    full: int
    #: the newest version that any holder has; the one offered, unless somebody published later
    newest: int
    #: a holder of that newer version
    newer_at: Contact | None


class Publisher:
    """The publisher's and the reader's side of a peer."""

    def __init__(self, protocol: KademliaProtocol, ksize: int, alpha: int) -> None:
        self.protocol = protocol
        self.keeper = protocol.keeper
        self.stats = protocol.stats
        self.table = protocol.table
        self.ksize = ksize
        self.alpha = alpha
        #: told of a record that a holder could not be given
        self.on_missed: Callable[[Contact, Record], None] = lambda contact, record: None

    def crawl(self, target: bytes, method: str = "find_node") -> Crawl:
        """Return a lookup of a target, ready to run."""
        return Crawl(self.protocol, target, self.ksize, self.alpha, method)

    # -- publishing -----------------------------------------------------------------------------------------------

    async def publish(self, key: bytes, value: Value) -> Published:
        """Publish a pair under a 20-byte key; this peer becomes its original publisher.

        Raises `ValueTooLarge`, `NoPeersReachable` when no other peer answers, `QuotaExceeded` when nobody stored
        it because every holder is full.
        """
        try:
            check_value(value)
        except ValueTooLarge:
            self.stats.publications["publish", "too large"] += 1
            raise
        with self.stats.publishing("publish", self.protocol.clock.seconds) as attempt:
            published = await self._publish(key, value)
            attempt.outcome, attempt.replicas = "acknowledged", published.replicas
        return published

    async def _publish(self, key: bytes, value: Value) -> Published:
        crawl = await self._converge(key)
        holders = self.with_self(key, crawl.lookup.closest())
        version = self.keeper.next_version(key)
        for _ in range(MAX_RAISES):
            now = self.keeper.wall()
            record = Record(key, value, version, now + self.keeper.expire, now)
            stored = await self.store(record, holders, "publish")
            if stored.newest <= version:
                break
            version = stored.newest + 1  # its publisher's clock is ahead of ours
        if not stored.replicas:
            if stored.full:
                raise QuotaExceeded("every holder's store is full; delete data or raise [storage] max_bytes")
            raise NoPeersReachable("no holder acknowledged the value; try again")
        for contact in crawl.lookup.unreached():
            self.on_missed(contact, replace(record, version=version))
        self.keeper.storage.publish(Publication(key, value, version, now))
        return Published(key, version, stored.replicas, len(holders))

    async def republish(self, publication: Publication) -> None:
        """Publish again what this peer published, under the same version, for a new life (section 2.3)."""
        held = self.keeper.get(publication.key)
        if held is not None and held.version > publication.version:
            self.keeper.storage.unpublish(publication.key)
            self.stats.publications["republish", "superseded"] += 1
            return
        with self.stats.publishing("republish", self.protocol.clock.seconds) as attempt:
            now = self.keeper.wall()
            record = Record(publication.key, publication.value, publication.version, now + self.keeper.expire, now)
            stored = await self.store(record, await self.holders(publication.key), "republish")
            attempt.replicas = stored.replicas
            if stored.newest > publication.version:
                self.keeper.storage.unpublish(publication.key)
                attempt.outcome = "superseded"
            else:
                self.keeper.storage.publish(replace(publication, published_at=now))
                attempt.outcome = "acknowledged" if stored.replicas else "full" if stored.full else "unreachable"

    async def holders(self, key: bytes) -> list[Contact | None]:
        """Look up the k closest live peers to a key, this peer (as None) included where it is one of them.

        Raises `NoPeersReachable` when no other peer answers.
        """
        return self.with_self(key, (await self._converge(key)).lookup.closest())

    async def _converge(self, key: bytes) -> Crawl:
        crawl = self.crawl(key)
        await crawl.run()
        if not crawl.lookup.closest():
            raise NoPeersReachable("no other peer answers; check the bootstrap addresses and the network")
        return crawl

    def with_self(self, key: bytes, closest: Iterable[Contact]) -> list[Contact | None]:
        """Return the k closest of some contacts and this peer, which stands as None."""
        number = to_int(key)
        ranked: list[tuple[int, Contact | None]] = [(to_int(c.id) ^ number, c) for c in closest]
        ranked.append((self.table.own_number ^ number, None))
        ranked.sort(key=lambda pair: pair[0])
        return [contact for _, contact in ranked[: self.ksize]]

    async def store(self, record: Record, holders: Iterable[Contact | None], reason: Reason) -> Stored:
        """Store a record at holders, all at once; None among them is this peer."""
        replicas, full, newest, newer_at = 0, 0, record.version, None
        asked: list[tuple[Contact, Deferred[Answer]]] = []
        for holder in holders:
            if holder is not None:
                asked.append((holder, self.protocol.store_at(holder, record, reason)))
                continue
            try:
                life = record.expires_at - self.keeper.wall()
                held = self.keeper.accept(record.key, record.value, record.version, life, own=True)
            except (QuotaExceeded, StorageError):  # the others may have room, and a disk that works
                full += 1
            else:
                replicas += 1
                newest = max(newest, held.version)
        answers = await gatherResults([deferred for _, deferred in asked])
        for (holder, _), answer in zip(asked, answers, strict=True):
            if answer.happened and answer.value:
                replicas += 1
                held_version = version_in(answer.extension) or 0
                if held_version > newest:
                    newest, newer_at = held_version, holder
            elif answer.extension.get(FULL):
                full += 1
            elif not answer.happened:
                self.on_missed(holder, record)
        return Stored(replicas, full, newest, newer_at)

    # -- reading --------------------------------------------------------------------------------------------------

    async def fetch(self, key: bytes, on_step: Callable[[Step], None] | None = None) -> Fetched | None:
        """Find the value of a 20-byte key, or None where the network has none.

        `on_step` is told of every step of the lookup; there is none where this peer holds the value.  Raises
        `NoPeersReachable` when peers are known and none of them answers: that says nothing about the value.
        """
        record = self.keeper.get(key)
        if record is not None and not (self.keeper.doubts(record) and len(self.table)):
            return Fetched(record.value, record.version, 0)
        crawl = self.crawl(key, "find_value")
        crawl.on_step = on_step
        found = await crawl.run()
        if record is not None and (found is None or found.order <= record.order):
            return Fetched(record.value, record.version, 0)
        if found is None:
            if crawl.lookup.requests and not crawl.lookup.closest():
                raise NoPeersReachable("no other peer answers; check the bootstrap addresses and the network")
            return None
        self._cache(key, found, crawl)
        return Fetched(found.value, found.version or 0, crawl.lookup.hops_to(found.holder))

    def _cache(self, key: bytes, found: Found, crawl: Crawl) -> None:
        """Store a found value at the closest peer that answered without it (section 2.3).

        Among the k closest that repairs a replica, which gets the life that is left; farther away it is a cache
        entry, whose life halves with each peer in between.
        """
        for older in crawl.found:
            if older.order < found.order and found.version:
                now = self.keeper.wall()
                record = Record(key, found.value, found.version, now + found.life, now)
                self.protocol.store_at(older.holder, record, "repair")
        place = crawl.lookup.closest_without({found.holder.id for found in crawl.found})
        if place is None:
            return
        contact, rank = place
        life = found.life if rank < self.ksize else found.life * 0.5 ** (rank - self.ksize + 1)
        now = self.keeper.wall()
        record = Record(key, found.value, found.version or 0, now + life, now)
        self.protocol.store_at(contact, record, "cache")

    async def fetch_from(self, contact: Contact, key: bytes) -> None:
        """Take over a record from a holder known to have a newer one."""
        answer = await self.protocol.ask(contact, "find_value", key)
        found = value_in(answer, contact, self.keeper.expire)
        if found is not None and found.version is not None:
            self.keeper.accept(key, found.value, found.version, found.life)


def check_value(value: Value) -> None:
    """Raise `TypeError` or `ValueTooLarge` where a value cannot be stored."""
    if not is_value(value):
        raise TypeError("a value is bytes, text, an integer, a float or a boolean")
    try:
        size = len(encode_value(value))
    except (OverflowError, UnicodeEncodeError):
        raise ValueTooLarge("the value is an integer beyond 64 bits, or text that UTF-8 cannot carry") from None
    if size > MAX_VALUE:
        raise ValueTooLarge(f"the value takes {size} bytes; a store message carries at most {MAX_VALUE}")
