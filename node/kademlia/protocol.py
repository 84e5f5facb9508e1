"""The five RPCs of a Kademlia peer, served and asked (paper, section 2.3; `stun` is kademlia 2.2.3's own)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from kademlia.codec import Extension, MalformedDatagram
from kademlia.contact import Contact
from kademlia.errors import QuotaExceeded, StorageError
from kademlia.ids import is_id, to_int
from kademlia.records import Record, is_value
from kademlia.rpc import NO_EXTENSION, Address, Answer, Reply, RPCProtocol

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from twisted.internet.defer import Deferred

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

    def startProtocol(self) -> None:  # noqa: N802  (Twisted's name)
        """Begin: the transport is there."""
        super().startProtocol()
        self.on_start()

    # -- the routing table learns ---------------------------------------------------------------------------------

    def heard_from(self, contact: Contact, incarnation: object = None) -> None:
        """Let the routing table know that a contact spoke; ping whom it wants pinged (section 2.2)."""
        heard = self.table.heard_from(contact, self.clock.seconds(), incarnation)
        if heard.probe is not None:
            self.probe(heard.probe)
        if heard.joined:
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
        else:
            self.table.failed(contact, self.clock.seconds())
        return answer

    # -- asking ---------------------------------------------------------------------------------------------------

    def greet(self, address: Address) -> Deferred[Answer]:
        """Ping whoever is at an address; it answers with its node ID."""
        return self.call(address, "ping", self.own_id, extension=self._marks)

    def ask(
        self, contact: Contact, name: str, target: bytes, on_slow: Callable[[], None] | None = None
    ) -> Deferred[Answer]:
        """Ask a contact `find_node` or `find_value`."""
        asked = self.call(contact.home, name, self.own_id, target, extension=self._marks, on_slow=on_slow)
        return asked.addCallback(self._noted, contact)

    def store_at(self, contact: Contact, record: Record, reason: Reason) -> Deferred[Answer]:
        """Ask a contact to hold a record for the life it has left; the reason is what it is counted by."""
        self.stats.sent.count(reason, record.size)
        marks = {**self._marks, VERSION: record.version, LIFE: record.expires_at - self.keeper.wall()}
        if not record.version:  # it came from a plain peer, and goes on as one
            marks = self._marks
        asked = self.call(contact.home, "store", self.own_id, record.key, record.value, extension=marks)
        return asked.addCallback(self._noted, contact)

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

    def rpc_ping(self, sender: Address, node_id: object) -> bytes:
        """Answer with the own node ID."""
        self._caller(sender, node_id)
        return self.own_id

    def rpc_store(self, sender: Address, node_id: object, key: object, value: Any) -> bool | Reply:
        """Hold a pair.  The answer states a version newer than the one offered, if that is what is held."""
        if not is_id(key) or not is_value(value):
            raise MalformedDatagram("store takes a 20-byte key and bytes, text, a number or a boolean")
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

    def rpc_find_node(self, sender: Address, node_id: object, target: object) -> list[Contact]:
        """Answer with the k closest contacts known, the caller not among them."""
        if not is_id(target):
            raise MalformedDatagram("find_node takes a 20-byte target")
        caller = self._caller(sender, node_id)
        return self.table.closest(to_int(target), self.table.ksize, exclude=caller.id)

    def rpc_find_value(self, sender: Address, node_id: object, key: object) -> list[Contact] | Reply:
        """Answer with the value if it is held, else as `find_node` does."""
        record = self.keeper.get(key) if is_id(key) else None
        if record is None:
            return self.rpc_find_node(sender, node_id, key)
        self._caller(sender, node_id)
        if not record.version:
            return Reply({"value": record.value}, NO_EXTENSION)
        marks = {VERSION: record.version, LIFE: record.expires_at - self.keeper.wall()}
        if self.keeper.doubts(record):
            marks[DOUBTFUL] = True
        return Reply({"value": record.value}, marks)
