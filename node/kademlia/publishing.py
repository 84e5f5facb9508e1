"""Storing pairs at the k closest peers (paper, section 2.3)."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from twisted.internet.defer import DeferredLock

from kademlia.crawling import Crawl
from kademlia.errors import NoPeersReachable, QuotaExceeded, StorageError, Superseded, ValueTooLarge
from kademlia.ids import to_int
from kademlia.lookup import State
from kademlia.parts import MAX_VALUE, is_large
from kademlia.protocol import FULL, version_in
from kademlia.reading import Fetched, Reader
from kademlia.records import Publication, Record, Value, content_of, encode_value, is_value
from kademlia.widening import widen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from kademlia.contact import Contact
    from kademlia.crawling import Step
    from kademlia.protocol import KademliaProtocol
    from kademlia.rpc import Answer
    from kademlia.stats import Reason

#: times a publication is raised above a newer version that a holder reports before it is left to the other writer
MAX_RAISES = 3
#: random bits by which it is raised, so that writers which raise at once do not meet at the same version
RAISE_BITS = 8


class Published(NamedTuple):
    """A publication that the network acknowledged."""

    digest: bytes
    version: int
    #: holders that acknowledged and have just this, the publisher included where it is one of the k closest
    replicas: int
    #: holders asked
    asked: int


class Stored(NamedTuple):
    """The outcome of one round of STOREs."""

    #: holders that have just this record
    replicas: int
    #: holders whose store is full
    full: int
    #: the newest version among records that win over this one: a greater one, or the same; 0 where there is none
    newest: int
    #: holders of such records
    newer_at: list[Contact]


class Publisher:
    """The publisher's and the reader's side of a peer."""

    def __init__(self, protocol: KademliaProtocol, ksize: int, alpha: int) -> None:
        self.protocol = protocol
        self.keeper = protocol.keeper
        self.stats = protocol.stats
        self.table = protocol.table
        self.ksize = ksize
        self.alpha = alpha
        self.reader = Reader(protocol, ksize, alpha)
        #: told of a record that a holder could not be given
        self.on_missed: Callable[[Contact, Record], None] = lambda contact, record: None
        #: told of a record of ours that somebody has a newer one than
        self.on_superseded: Callable[[Record], None] = lambda record: None
        self._turns: dict[bytes, DeferredLock] = {}

    def crawl(self, target: bytes, size: int = 0) -> Crawl:
        """Return a lookup of a target, ready to run; with a `size`, of the k closest that take such a value."""
        return Crawl(self.protocol, target, self.ksize, self.alpha, "find_node", size)

    # -- publishing -----------------------------------------------------------------------------------------------

    async def publish(self, key: bytes, value: Value) -> Published:
        """Publish a pair under a 20-byte key; this peer becomes its original publisher.

        Publications of a key by one peer are made one after the other.  Raises `ValueTooLarge`, `NoPeersReachable`
        when no other peer answers, `QuotaExceeded` when nobody stored it because every holder is full,
        `Superseded` when another publisher of the key was faster each time and has the newer value.
        """
        try:
            size = check_value(value, self.protocol.transfers.max_value)
        except ValueTooLarge:
            self.stats.publications["publish", "too large"] += 1
            raise
        with self.stats.publishing("publish", self.protocol.clock.seconds) as attempt:
            async with self._turn(key):
                published = await self._publish(key, value, size)
            attempt.outcome, attempt.replicas = "acknowledged", published.replicas
        return published

    @asynccontextmanager
    async def _turn(self, key: bytes) -> AsyncIterator[None]:
        """Wait for other publications of a key by this peer: each decides on what is to be republished."""
        lock = self._turns.setdefault(key, DeferredLock())
        await lock.acquire()
        try:
            yield
        finally:
            lock.release()
            if not lock.locked:
                self._turns.pop(key, None)

    async def _publish(self, key: bytes, value: Value, size: int) -> Published:
        crawl, closest = await self._converge(key, size)
        holders = self.with_self(key, closest)
        version = self.keeper.next_version(key)
        for raises in range(MAX_RAISES + 1):
            now = self.keeper.wall()
            record = Record(key, value, version, now + self.keeper.expire, now)
            stored = await self.store(record, holders, "publish")
            if not stored.newest:
                break
            if raises == MAX_RAISES:
                self.on_superseded(record)
                raise Superseded(
                    "another publisher of this key was later each time, and its value stays; "
                    "read it, and publish again if yours is to replace it"
                )
            # Its publisher's clock is ahead of ours, or it published meanwhile.
            raised = stored.newest + 1 + self.protocol.rng.getrandbits(RAISE_BITS)
            version = max(self.keeper.next_version(key), raised)
        if not stored.replicas:
            if stored.full:
                raise QuotaExceeded("every holder's store is full; delete data or raise [storage] max_bytes")
            raise NoPeersReachable("no holder acknowledged the value; check this host's clock, and try again")
        for contact in crawl.lookup.unreached():
            self.on_missed(contact, record)
        for contact in crawl.lookup.unreached(State.SLOW):
            self._give(contact, record)
        self.keeper.storage.publish(Publication(key, value, version, now))
        return Published(key, version, stored.replicas, len(holders))

    async def republish(self, publication: Publication, otherwise: float | None = None) -> None:
        """Publish again what this peer published, under the same version, for a new life (section 2.3).

        `otherwise` (wall-clock seconds; None: as before) is noted as its last publication where nobody stored it.
        So it is while the key is being published anew.
        """
        if publication.key in self._turns:
            put_off = publication.published_at if otherwise is None else otherwise
            self.keeper.storage.publish(replace(publication, published_at=put_off))
            return
        async with self._turn(publication.key):
            await self._republish(publication, otherwise)

    async def _republish(self, publication: Publication, otherwise: float | None) -> None:
        now = self.keeper.wall()
        record = Record(publication.key, publication.value, publication.version, now + self.keeper.expire, now)
        held = self.keeper.get(publication.key)
        if held is not None and held.order > record.order:
            self._unpublish(record)
            self.stats.publications["republish", "superseded"] += 1
            return
        with self.stats.publishing("republish", self.protocol.clock.seconds) as attempt:
            stored = await self.store(record, await self.holders(record), "republish")
            attempt.replicas = stored.replicas
            if stored.newest:
                self._unpublish(record)
                attempt.outcome = "superseded"
            else:
                failed_at = publication.published_at if otherwise is None else otherwise
                published_at = now if stored.replicas else failed_at
                self.keeper.storage.publish(replace(publication, published_at=published_at))
                attempt.outcome = "acknowledged" if stored.replicas else "full" if stored.full else "unreachable"

    def _unpublish(self, record: Record) -> None:
        self.keeper.storage.unpublish(record.key)
        self.on_superseded(record)

    async def holders(self, record: Record) -> list[Contact | None]:
        """Look up the k closest live peers that can hold a record, this peer (as None) where it is one of them.

        Raises `NoPeersReachable` when no other peer answers.
        """
        _, closest = await self._converge(record.key, large_size(record))
        return self.with_self(record.key, closest)

    def holders_known(self, record: Record) -> list[Contact | None]:
        """Return the k closest contacts that can hold a record, as far as is known, and this peer as `holders`."""
        return self.with_self(record.key, self.protocol.closest(to_int(record.key), large_size(record)))

    async def _converge(self, key: bytes, size: int) -> tuple[Crawl, list[Contact]]:
        crawl = self.crawl(key, size)
        await crawl.run()
        closest = crawl.lookup.closest()
        if not closest and not crawl.lookup.passed:
            raise NoPeersReachable("no other peer answers; check the bootstrap addresses and the network")
        return crawl, closest if not size else await widen(self.protocol, crawl, self.ksize, self.alpha, size)

    def with_self(self, key: bytes, closest: Iterable[Contact]) -> list[Contact | None]:
        """Return the k closest of some contacts and this peer, which stands as None."""
        number = to_int(key)
        ranked: list[tuple[int, Contact | None]] = [(to_int(c.id) ^ number, c) for c in closest]
        ranked.append((self.table.own_number ^ number, None))
        ranked.sort(key=lambda pair: pair[0])
        return [contact for _, contact in ranked[: self.ksize]]

    async def store(self, record: Record, holders: Iterable[Contact | None], reason: Reason) -> Stored:
        """Store a record at holders, all at once; None among them is this peer."""
        replicas = full = newest = 0
        newer_at: list[tuple[int, Contact]] = []
        holders = list(holders)
        others = [holder for holder in holders if holder is not None]
        asked = self.protocol.store_at_all(others, record, reason, lambda holder: self.on_missed(holder, record))
        held_here = False
        if len(others) < len(holders):
            try:
                life = record.expires_at - self.keeper.wall()
                self.keeper.accept(record.key, record.value, record.version, life, own=True)
            except (QuotaExceeded, StorageError):  # the others may have room, and a disk that works
                full += 1
            else:
                held_here = True
        for holder, answer in zip(others, await asked, strict=True):
            if answer.happened and answer.value:
                # A holder states a version where what it has wins over what it was given.
                version = version_in(answer.extension) or 0
                if version < max(1, record.version) or not self.keeper.believes(version):
                    replicas += 1
                else:
                    newer_at.append((version, holder))
            elif answer.extension.get(FULL):
                full += 1
        held = self.keeper.get(record.key)  # somebody else may have stored here meanwhile
        if held is not None and held.order > record.order:
            newest = held.version
        else:
            replicas += held_here
        newer_at.sort(key=lambda pair: pair[0], reverse=True)
        newest = max(newest, *(version for version, _ in newer_at), 0)
        return Stored(replicas, full, newest, [holder for _, holder in newer_at])

    def _give(self, contact: Contact, record: Record) -> None:
        """Store a record at a peer that may be as close as the holders; nobody waits for it."""

        def given(answer: Answer) -> None:
            if not answer.happened:
                self.on_missed(contact, record)

        self.protocol.store_at(contact, record, "publish").addCallback(given)

    # -- reading --------------------------------------------------------------------------------------------------

    async def fetch(self, key: bytes, on_step: Callable[[Step], None] | None = None) -> Fetched | None:
        """Do `Reader.fetch`."""
        return await self.reader.fetch(key, on_step)

    async def fetch_from(self, contact: Contact, key: bytes, version: int = 0) -> bool:
        """Do `Reader.fetch_from`."""
        return await self.reader.fetch_from(contact, key, version)


def large_size(record: Record) -> int:
    """Return the bytes of an encoded record that needs more than one datagram, 0 of all others."""
    return record.size if record.version and is_large(record.value) else 0


def check_value(value: Value, max_value: int) -> int:
    """Return the bytes of the encoded value if it needs more than one datagram, else 0.

    Raises `TypeError` or `ValueTooLarge` where it cannot be stored.
    """
    if not is_value(value):
        raise TypeError("a value is bytes, text, an integer, a float or a boolean")
    try:
        size = len(encode_value(value))
    except (OverflowError, UnicodeEncodeError):
        raise ValueTooLarge("the value is an integer beyond 64 bits, or text that UTF-8 cannot carry") from None
    if size <= MAX_VALUE:
        return 0
    if (content := len(content_of(value))) > max_value:
        raise ValueTooLarge(
            f"the value has {content} bytes, more than the {max_value} that [storage] max_value allows"
        )
    return size
