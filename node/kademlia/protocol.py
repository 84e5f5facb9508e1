"""The five RPCs of a Kademlia peer, served and asked (paper, section 2.3; `stun` is kademlia 2.2.3's own).

And two of ours for values larger than one datagram, `offer` and `part`, which `transfers` explains.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from kademlia.codec import Extension, MalformedDatagram
from kademlia.contact import Contact
from kademlia.errors import QuotaExceeded, StorageError
from kademlia.ids import is_id, to_int
from kademlia.parts import is_large, parse_parts
from kademlia.pulling import Name
from kademlia.records import MAX_SIZE, Record, is_value
from kademlia.rpc import NO_EXTENSION, Address, Answer, Reply, RPCProtocol
from kademlia.transfers import PARTS, Transfers

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from twisted.internet.defer import Deferred

    from kademlia.clock import Clock
    from kademlia.keeper import Keeper
    from kademlia.routing import RoutingTable
    from kademlia.stats import Stats

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

        self.call(contact.home, "ping", self.own_id, extension=self._marks).addCallback(
            self._noted, contact
        ).addCallback(probed)

    def _noted(self, answer: Answer, contact: Contact) -> Answer:
        if answer.happened or answer.extension:
            self.heard_from(contact)
            if PARTS in answer.extension:
                self.transfers.speakers.learned(contact, answer.extension[PARTS])
        else:
            self.table.failed(contact, self.clock.seconds())
            self.transfers.speakers.forget(contact)
        return answer

    # -- asking ---------------------------------------------------------------------------------------------------

    def greet(self, address: Address) -> Deferred[Answer]:
        """Ping whoever is at an address; it answers with its node ID."""
        return self.call(address, "ping", self.own_id, extension=self._marks)

    def ask(
        self,
        contact: Contact,
        name: str,
        target: bytes,
        on_slow: Callable[[], None] | None = None,
        size: int = 0,
    ) -> Deferred[Answer]:
        """Ask a contact `find_node` or `find_value`; with a `size`, for contacts that take so large a value."""
        marks = {**self._marks, PARTS: size} if size else self._marks
        asked = self.call(contact.home, name, self.own_id, target, extension=marks, on_slow=on_slow)
        asked.addCallback(self._noted, contact)
        # Ours state what they take in these answers.
        return asked.addCallback(self._plain, contact) if size or name == "find_value" else asked

    def _plain(self, answer: Answer, contact: Contact) -> Answer:
        if answer.happened and isinstance(answer.value, list) and PARTS not in answer.extension:
            self.transfers.speakers.learned(contact, 0)
        return answer

    def request(
        self,
        contact: Contact,
        name: str,
        *arguments: object,
        extension: Extension = NO_EXTENSION,
        on_slow: Callable[[], None] | None = None,
    ) -> Deferred[Answer]:
        """Call a contact with our node ID before the arguments, and take note of whether it answers."""
        marks = {**self._marks, **extension}
        asked = self.call(contact.home, name, self.own_id, *arguments, extension=marks, on_slow=on_slow)
        return asked.addCallback(self._noted, contact)

    def store_at(self, contact: Contact, record: Record) -> Deferred[Answer]:
        """Ask a contact to hold a record for the life it has left.

        A large one is offered to those that take it; a stock peer is not disturbed, and counts as having refused.
        """

        def marks() -> Extension:
            if not record.version:  # it came from a plain peer, and goes on as one
                return NO_EXTENSION
            return {VERSION: record.version, LIFE: record.expires_at - self.keeper.wall()}

        if record.version and is_large(record.value):
            return self.transfers.offer(contact, record, marks)
        return self.request(contact, "store", record.key, record.value, extension=marks())

    def closest(self, target: int, size: int = 0, exclude: bytes | None = None) -> list[Contact]:
        """Return the k closest contacts to an ID, those left out that are known not to take `size` bytes."""
        if not size:
            return self.table.closest(target, self.table.ksize, exclude)
        contacts = self.table.closest(target, len(self.table), exclude)
        return self.transfers.speakers.without_refusers(contacts, size)[: self.table.ksize]

    # -- being asked ----------------------------------------------------------------------------------------------

    def _caller(self, sender: Address, node_id: object) -> Contact:
        if not is_id(node_id) or not sender[1]:
            raise MalformedDatagram("a request names its sender's node ID")
        incarnation = self.extension.get(INCARNATION)
        contact = Contact(node_id, sender[0], sender[1])
        self.heard_from(contact, incarnation if type(incarnation) is int else None)
        return contact

    def rpc_stun(self, sender: Address) -> Address:
        """Tell the caller the address that it is seen at."""
        return sender

    def rpc_ping(self, sender: Address, node_id: object) -> bytes | Reply:
        """Answer with the own node ID."""
        self._caller(sender, node_id)
        return Reply(self.own_id, {PARTS: self.transfers.limit}) if PARTS in self.extension else self.own_id

    def rpc_store(self, sender: Address, node_id: object, key: object, value: Any) -> bool | Reply:
        """Hold a pair.  The answer states a version newer than the one offered, if that is what is held."""
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
            life = life_in(self.extension, self.keeper.expire)
            held = self.keeper.accept(key, value, version, life)
        except (QuotaExceeded, StorageError) as error:
            self.stats.rpcs["store", "full"] += 1
            self.log.debug("not stored: {error}", error=error)
            return Reply(False, {FULL: True})
        return True if held.version == version else Reply(True, {VERSION: held.version})

    def rpc_find_node(self, sender: Address, node_id: object, target: object) -> list[Contact] | Reply:
        """Answer with the k closest contacts known, the caller not among them.

        A caller that looks for peers which take a large value names its size, and gets the k closest of those.
        """
        if not is_id(target):
            raise MalformedDatagram("find_node takes a 20-byte target")
        caller = self._caller(sender, node_id)
        size = self.extension.get(PARTS)
        if type(size) is not int or size <= 0:
            return self.closest(to_int(target), exclude=caller.id)
        return Reply(self.closest(to_int(target), size, caller.id), {PARTS: self.transfers.limit})

    def rpc_find_value(self, sender: Address, node_id: object, key: object) -> list[Contact] | Reply:
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
