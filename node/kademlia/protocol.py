"""The five RPCs of a Kademlia peer, served and asked (paper, section 2.3; `stun` is kademlia 2.2.3's own).

And two of ours for values larger than one datagram, `offer` and `part`, which `transfers` explains.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, gatherResults

from kademlia.codec import NO_EXTENSION, Extension, MalformedDatagram, Packed, pack
from kademlia.contact import Contact
from kademlia.errors import QuotaExceeded, StorageError
from kademlia.ids import is_id, to_int
from kademlia.parts import is_large, parse_parts
from kademlia.pulling import Name
from kademlia.records import MAX_SIZE, Record, encode_value, is_value
from kademlia.routing import NOTHING, Heard
from kademlia.rpc import NO_ANSWER, Address, Answer, Reply, RPCProtocol
from kademlia.transfers import PARTS, Transfers

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from kademlia.clock import Clock
    from kademlia.keeper import Keeper
    from kademlia.routing import RoutingTable
    from kademlia.stats import Reason, Stats

# Names in extensions.  Requests carry the incarnation; pairs carry their version and the seconds of life left.
INCARNATION, VERSION, LIFE, FULL, DOUBTFUL = "b", "v", "t", "full", "doubtful"


def version_in(extension: Extension) -> int | None:
    """Return the version that an extension states, None where the peer is plain or talks nonsense."""
    version = extension.get(VERSION)
    return version if type(version) is int and 0 < version < 1 << 63 else None


def life_in(extension: Extension, default: float) -> float:
    """Return the seconds of life that an extension states."""
    life = extension.get(LIFE)
    if isinstance(life, (int, float)) and math.isfinite(life) and life > 0:
        return float(life)
    return default


class KademliaProtocol(RPCProtocol):
    """Answers other peers, asks them, and lets the routing table know of both.

    `incarnation` marks this life of the peer: others notice by it that it was restarted.
    """

    def __init__(
        self,
        table: RoutingTable,
        keeper: Keeper,
        clock: Clock,
        rng: random.Random,
        stats: Stats,
        incarnation: int,
        max_value: int = MAX_SIZE,
    ) -> None:
        super().__init__(clock, rng, stats)
        self.table = table
        self.keeper = keeper
        self.own_id = table.own_id
        #: called with a contact that joined: new to us, restarted, or back after having been away
        self.on_joined: Callable[[Contact], None] = lambda _: None
        #: called when it seems that this peer, or a part of the network with it, was cut off from others
        self.on_cut_off: Callable[[], None] = lambda: None
        #: called before a value held here is told to somebody
        self.on_value_asked: Callable[[], None] = lambda: None
        #: called when datagrams can be sent
        self.on_start: Callable[[], None] = lambda: None
        self._marks: Extension = {INCARNATION: incarnation}
        self._probing: set[bytes] = set()
        self.transfers = Transfers(self, max_value)

    def startProtocol(self) -> None:  # noqa: N802  (Twisted's name)
        """Begin: the transport is there."""
        super().startProtocol()
        self.on_start()

    def stopProtocol(self) -> None:  # noqa: N802  (Twisted's name)
        """End what is under way."""
        super().stopProtocol()
        self.transfers.stop()

    # -- the routing table learns ---------------------------------------------------------------------------------

    def heard_from(self, contact: Contact, incarnation: object = None) -> None:
        """Let the routing table know that a contact spoke; ping whom it wants pinged (section 2.2)."""
        heard = self.table.heard_from(contact, self.clock.seconds(), incarnation)
        if heard is not NOTHING:
            self._react(contact, heard)

    def _react(self, contact: Contact, heard: Heard) -> None:
        if heard.probe is not None:
            self.probe(heard.probe)
        if heard.joined:
            self.transfers.speakers.forget(contact)
            self.on_joined(contact)
        if heard.cut_off:
            self.on_cut_off()

    def probe(self, contact: Contact) -> None:
        """Ping a contact to learn whether it is still there, unless that is under way."""
        if contact.id in self._probing:
            return
        self._probing.add(contact.id)

        def probed(answer: Answer) -> None:
            self._probing.discard(contact.id)
            if answer.happened and answer.value != contact.id:  # another peer answers there now
                self.table.failed(contact, self.clock.seconds())

        self.request(contact, "ping").addCallback(probed)

    # -- asking ---------------------------------------------------------------------------------------------------

    def greet(self, address: Address) -> Deferred[Answer]:
        """Ping whoever is at an address; it answers with its node ID."""
        return self.call(address, "ping", self.own_id, extension=self._marks)

    def question(self, name: str, target: bytes, size: int = 0) -> bytes:
        """Return the request `find_node` or `find_value`, packed for `send`.

        With a `size`, it is for contacts that take so large a value.
        """
        return pack([name, [self.own_id, target]], {**self._marks, PARTS: size} if size else self._marks)

    def send(
        self,
        contact: Contact,
        name: str,
        packed: bytes,
        on_answer: Callable[[Answer], object],
        on_slow: Callable[[], object] | None = None,
    ) -> None:
        """Send a contact a request and take note of whether it answers; `begin_call` explains the parameters."""

        def answered(answer: Answer) -> None:
            now = self.clock.seconds()
            if answer.happened or answer.extension:
                if (heard := self.table.heard_from(contact, now)) is not NOTHING:
                    self._react(contact, heard)
                if PARTS in answer.extension:
                    self.transfers.speakers.learned(contact, answer.extension[PARTS])
            else:
                self.table.failed(contact, now)
                self.transfers.speakers.forget(contact)
            on_answer(answer)

        self.begin_call((contact[1], contact[2]), name, packed, answered, on_slow)

    def request(
        self,
        contact: Contact,
        name: str,
        *arguments: object,
        extension: Extension = NO_EXTENSION,
        on_slow: Callable[[], object] | None = None,
    ) -> Deferred[Answer]:
        """Call a contact with our node ID before the arguments, and take note of whether it answers."""
        deferred: Deferred[Answer] = Deferred()
        packed = pack([name, [self.own_id, *arguments]], {**self._marks, **extension})
        self.send(contact, name, packed, deferred.callback, on_slow)
        return deferred

    def ask(self, contact: Contact, name: str, target: bytes) -> Deferred[Answer]:
        """Ask a contact `find_node` or `find_value`."""
        return self.request(contact, name, target)

    def store_at(self, contact: Contact, record: Record, reason: Reason) -> Deferred[Answer]:
        """Ask a contact to hold a record for the life it has left; the reason is what it is counted by.

        A large one is offered to those that take it; a stock peer is not disturbed, and counts as having refused.
        """
        self.stats.sent.count(reason, record.size)
        if record.version and is_large(record.value):
            return self.transfers.offer(contact, record, lambda: self._life_of(record))
        return self.request(contact, "store", record.key, record.value, extension=self._life_of(record))

    def store_at_all(
        self,
        contacts: Sequence[Contact],
        record: Record,
        reason: Reason,
        on_missed: Callable[[Contact], object] = lambda contact: None,
    ) -> Deferred[list[Answer]]:
        """Do `store_at` at several contacts at once; fires with their answers, in the same order.

        `on_missed` is told at once of each that does not answer: the others may take their time.
        """
        if record.version and is_large(record.value):

            def offered(answer: Answer, contact: Contact) -> Answer:
                if not answer.happened:
                    on_missed(contact)
                return answer

            return gatherResults([self.store_at(c, record, reason).addCallback(offered, c) for c in contacts])
        self.stats.sent.count(reason, record.size, len(contacts))
        answers: list[Answer] = [NO_ANSWER] * len(contacts)
        waiting = len(contacts)
        deferred: Deferred[list[Answer]] = Deferred()
        packed = pack(["store", [self.own_id, record.key, record.value]], {**self._marks, **self._life_of(record)})

        def answered(place: int, answer: Answer) -> None:
            nonlocal waiting
            answers[place] = answer
            if not answer.happened:
                on_missed(contacts[place])
            waiting -= 1
            if not waiting:
                deferred.callback(answers)

        for place, contact in enumerate(contacts):
            self.send(contact, "store", packed, partial(answered, place))
        if not contacts:
            deferred.callback(answers)
        return deferred

    def _life_of(self, record: Record) -> Extension:
        if not record.version:  # it came from a plain peer, and goes on as one
            return NO_EXTENSION
        return {VERSION: record.version, LIFE: record.expires_at - self.keeper.wall()}

    def closest(self, target: int, size: int = 0) -> list[Contact]:
        """Return the k closest contacts to an ID, those left out that are known not to take `size` bytes."""
        if not size:
            return self.table.closest(target, self.table.ksize)
        contacts = self.table.closest(target, len(self.table))
        return self.transfers.speakers.without_refusers(contacts, size)[: self.table.ksize]

    # -- being asked ----------------------------------------------------------------------------------------------

    def _caller(self, sender: Address, node_id: object) -> Contact:
        """Return who sent the request being served, and let the routing table know of it."""
        if not is_id(node_id) or not sender[1]:
            raise MalformedDatagram("a request names its sender's node ID")
        known = self.table.get(node_id)
        contact = known.contact if known is not None else None
        if contact is None or contact[2] != sender[1] or contact[1] != sender[0]:
            contact = Contact(node_id, sender[0], sender[1])
        incarnation = self.extension.get(INCARNATION)
        heard = self.table.heard_from(
            contact, self.clock.seconds(), incarnation if type(incarnation) is int else None
        )
        if heard is not NOTHING:
            self._react(contact, heard)
        return contact

    def rpc_stun(self, sender: Address) -> Address:
        """Tell the caller the address that it is seen at."""
        return sender

    def rpc_ping(self, sender: Address, node_id: object) -> bytes | Reply:
        """Answer with the own node ID."""
        self._caller(sender, node_id)
        return Reply(self.own_id, {PARTS: self.transfers.limit}) if PARTS in self.extension else self.own_id

    def rpc_store(self, sender: Address, node_id: object, key: object, value: Any) -> bool | Reply:
        """Hold a pair.  The answer states a version where another pair is held that wins over the one offered.

        It is a newer version, or the same one with a greater digest.  A version too far ahead is refused.
        """
        if not is_id(key) or not is_value(value) or is_large(value):
            raise MalformedDatagram(
                "store takes a 20-byte key and bytes or text of some 8 KB, a number or a boolean"
            )
        self._caller(sender, node_id)
        version = version_in(self.extension)
        try:
            if version is None:
                self.keeper.accept_plain(key, value)
                return True
            if not self.keeper.believes(version):
                return False
            life = life_in(self.extension, self.keeper.expire)
            held = self.keeper.accept(key, value, version, life)
        except (QuotaExceeded, StorageError) as error:
            self.stats.rpcs["store", "full"] += 1
            self.log.debug("not stored: {error}", error=error)
            return Reply(False, {FULL: True})
        superseded = held.version != version or encode_value(held.value) != encode_value(value)
        return Reply(True, {VERSION: held.version}) if superseded else True

    def rpc_find_node(self, sender: Address, node_id: object, target: object) -> Packed | Reply:
        """Answer with the k closest contacts known, the caller not among them.

        A caller that looks for peers which take a large value names its size, and gets the k closest of those.
        """
        if not is_id(target):
            raise MalformedDatagram("find_node takes a 20-byte target")
        caller = self._caller(sender, node_id)
        size = self.extension.get(PARTS)
        if type(size) is not int or size <= 0:
            return self.table.closest_packed(to_int(target), exclude=caller.id)
        contacts = [contact for contact in self.closest(to_int(target), size) if contact.id != caller.id]
        return Reply(contacts, {PARTS: self.transfers.limit})

    def rpc_find_value(self, sender: Address, node_id: object, key: object) -> Packed | Reply:
        """Answer with the value if it is held, else as `find_node` does.

        Of a large value ours are told the name, by which they fetch it; a stock peer never sees it.
        """
        record = self.keeper.get(key) if is_id(key) else None
        ours = INCARNATION in self.extension
        large = record is not None and bool(record.version) and is_large(record.value)
        if record is None or (large and not ours):
            answer = self.rpc_find_node(sender, node_id, key)
            if ours and not isinstance(answer, Reply):
                return Reply(answer, {PARTS: self.transfers.limit})
            return answer
        self._caller(sender, node_id)
        if not record.version:
            return Reply({"value": record.value}, NO_EXTENSION)
        marks = {VERSION: record.version, LIFE: record.expires_at - self.keeper.wall()}
        self.on_value_asked()
        if self.keeper.doubts(record):
            marks[DOUBTFUL] = True
        return Reply(
            {"parts": self.transfers.shelf.parcel(record).parts} if large else {"value": record.value}, marks
        )

    def rpc_offer(
        self, sender: Address, node_id: object, key: object, size: object, digest: object
    ) -> bool | int | Reply | None:
        """Fetch a large value from the caller, if it is wanted; `transfers` says what is answered."""
        parts, version = parse_parts(size, digest), version_in(self.extension)
        if not is_id(key) or parts is None or version is None:
            raise MalformedDatagram(
                "offer takes a 20-byte key, the size and SHA-256 of a large value, and a version"
            )
        if not self.keeper.believes(version):
            return False
        life = life_in(self.extension, self.keeper.expire)
        return self.transfers.offered(self._caller(sender, node_id), Name(key, version, parts), life)

    def rpc_part(
        self, sender: Address, node_id: object, key: object, digest: object, offset: object
    ) -> bytes | None:
        """Answer with a part of a large value, None where it is not held."""
        if not (is_id(key) and type(digest) is bytes and type(offset) is int and offset >= 0):
            raise MalformedDatagram("part takes a 20-byte key, a SHA-256 and an offset")
        self._caller(sender, node_id)
        return self.transfers.part(key, digest, offset)
