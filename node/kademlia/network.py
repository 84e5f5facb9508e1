"""The public API: a peer as a program uses it.

    from twisted.internet import defer, task
    from kademlia.network import Server

    async def main(reactor):
        server = Server()
        await server.listen(5678)
        await server.bootstrap([("127.0.0.1", 8468)])
        await server.set("my key", "my awesome value")
        print(await server.get("my key"))
        await server.stop()

    task.react(lambda reactor: defer.ensureDeferred(main(reactor)))

It runs under every Twisted reactor.  Everything that asks the network returns a Deferred.
"""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from twisted.internet.defer import Deferred, ensureDeferred, gatherResults, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.task import LoopingCall

from kademlia import state
from kademlia.contact import Contact, canonical, is_address, parse_contact
from kademlia.errors import (
    BootstrapError,
    ConfigurationError,
    KademliaError,
    ListenError,
    NoPeersReachable,
    Superseded,
)
from kademlia.handover import Handover
from kademlia.ids import digest, is_id, random_id, to_bytes, to_int
from kademlia.intervals import PROFILES, Intervals
from kademlia.keeper import Keeper
from kademlia.maintenance import Maintenance
from kademlia.parts import MAX_VALUE
from kademlia.protocol import KademliaProtocol
from kademlia.publishing import Published, Publisher
from kademlia.reading import Fetched
from kademlia.records import LEAST_MAX_VALUE, MAX_SIZE, MOST_MAX_VALUE
from kademlia.routing import BACKOFF, LONGEST_BACKOFF, RoutingTable
from kademlia.stats import Stats
from kademlia.storage import MemoryStorage, Storage
from kademlia.udp import listen

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kademlia.crawling import Step
    from kademlia.records import Value
    from kademlia.rpc import Address, Answer
    from kademlia.shim import FaultShim

__all__ = ["MAX_VALUE", "Fetched", "Neighbour", "Published", "Server"]

# Reading or writing a datagram larger than Twisted's default of 8 KiB.
MAX_PACKET = 65535


class Neighbour(NamedTuple):
    """A contact of the routing table, as `neighbours` reports it."""

    id: bytes
    address: str
    port: int
    #: XOR of its ID and ours
    distance: bytes
    #: seconds since it last spoke to us
    last_seen: float


class Server:
    """One peer of the network.

    `ksize` and `alpha` are k and α of the paper; `id` is 20 bytes, drawn when None; `storage` holds the pairs (in
    memory when None); `max_value` is the most bytes of a value that it publishes, takes from others or reads.
    `reactor`, `rng` and `wall` (wall-clock seconds) can be given by a test that owns them.
    Raises `ConfigurationError` when a parameter is impossible.
    """

    def __init__(
        self,
        ksize: int = 20,
        alpha: int = 3,
        id: bytes | None = None,  # noqa: A002  (the library's name for it since its first release)
        storage: Storage | None = None,
        *,
        intervals: Intervals = PROFILES["paper"],
        reactor: Any = None,
        rng: random.Random | None = None,
        wall: Callable[[], float] = time.time,
        shim: FaultShim | None = None,
        max_value: int = MAX_SIZE,
    ) -> None:
        for name, number in (("ksize", ksize), ("alpha", alpha)):
            if type(number) is not int or number < 1:
                raise ConfigurationError(f"{name} must be a whole number of at least 1, not {number!r}")
        if type(max_value) is not int or not LEAST_MAX_VALUE <= max_value <= MOST_MAX_VALUE:
            raise ConfigurationError(
                f"max_value must be from {LEAST_MAX_VALUE} to {MOST_MAX_VALUE} bytes, not {max_value!r}"
            )
        if not isinstance(intervals, Intervals):
            raise ConfigurationError(
                f"intervals must be of kademlia.intervals.Intervals, such as PROFILES['lab'], not {intervals!r}"
            )
        if id is not None and not is_id(id):
            raise ConfigurationError("a node ID is 20 bytes")
        if reactor is None:
            from twisted.internet import reactor  # noqa: PLC0415  (importing it installs one: only when needed)
        self._reactor = reactor
        self._rng = rng or random.SystemRandom()
        self.ksize = ksize
        self.alpha = alpha
        self.id = id or random_id(self._rng)
        self.storage: Storage = storage if storage is not None else MemoryStorage()
        self.intervals = intervals
        self.stats = Stats()
        # Whoever is back after a partition is known again well within the interval in which buckets are refreshed.
        longest_backoff = min(LONGEST_BACKOFF, max(BACKOFF, intervals.refresh / 2))
        self.table = RoutingTable(self.id, ksize, reactor.seconds(), longest_backoff=longest_backoff)
        incarnation = self._rng.getrandbits(48)
        keeper = Keeper(self.storage, intervals.expire, wall, self.stats)
        self.protocol = KademliaProtocol(
            self.table, keeper, reactor, self._rng, self.stats, incarnation, max_value
        )
        self.protocol.shim = shim
        self.publisher = Publisher(self.protocol, ksize, alpha)
        self.maintenance = Maintenance(self.publisher, intervals, reactor, self._rng, self.stats)
        self.handover = Handover(self.publisher, reactor, self.stats)
        self.protocol.on_joined = self._joined
        self.protocol.on_start = self.maintenance.start
        self.protocol.on_cut_off = self.maintenance.doubt
        self.protocol.on_value_asked = self.maintenance.notice_pause
        self.publisher.on_missed = self.handover.missed.add
        self.publisher.on_superseded = self.handover.missed.superseded
        self._port: Any | None = None
        self._saving: LoopingCall | None = None

    @property
    def shim(self) -> FaultShim | None:
        """The faults that this peer makes on its own datagrams, where it was given a shim."""
        return self.protocol.shim

    # -- life -----------------------------------------------------------------------------------------------------

    def listen(self, port: int, interface: str = "") -> Deferred[Any]:
        """Take part on a UDP port; raises `ListenError` at once when it cannot be bound.

        A program that owns its transport passes `server.protocol` to `reactor.listenUDP` instead.
        """
        try:
            self._port = listen(self._reactor, port, self.protocol, interface, MAX_PACKET)
        except CannotListenError as error:
            reason = getattr(error.socketError, "strerror", None) or error.socketError
            raise ListenError(
                f"cannot listen on UDP {interface or '*'}:{port}: {reason}; choose another port or stop its user"
            ) from None
        return succeed(self._port)

    @property
    def address(self) -> Address | None:
        """Where this peer listens, once it does."""
        if self._port is None:
            return None
        host = self._port.getHost()
        return host.host, host.port

    def stop(self) -> Deferred[None]:
        """Leave without ceremony: a peer may always just be gone (section 2.3 needs no goodbye)."""
        self.maintenance.stop()
        self.handover.stop()
        self._stop_saving()
        port, self._port = self._port, None
        stopped = succeed(None) if port is None else ensureDeferred(_stopped(port))
        return stopped.addCallback(lambda _: self.storage.close())

    # -- joining --------------------------------------------------------------------------------------------------

    def bootstrap(self, addresses: Iterable[Address]) -> Deferred[list[Address]]:
        """Join the network through peers at (IP address, UDP port); fires with those that answered by then.

        It joins through the first that answers: the dead among them hold nobody up.  An empty list means that
        nobody answered.  Raises `BootstrapError` at once when one is not a pair of an IP address and a port.
        """
        return ensureDeferred(self._bootstrap(_homes(addresses)))

    async def _bootstrap(self, addresses: list[Address]) -> list[Address]:
        reached: list[Address] = []
        silent = len(addresses)
        first: Deferred[None] = succeed(None) if not addresses else Deferred()

        def greeted(answer: Answer, address: Address) -> None:
            nonlocal silent
            silent -= 1
            if answer.happened and is_id(answer.value) and answer.value != self.id:
                self.protocol.heard_from(Contact(answer.value, *address))
                reached.append(address)
            if not first.called and (reached or not silent):
                first.callback(None)

        for address in addresses:
            self.protocol.greet(address).addCallback(greeted, address)
        await first
        if reached:
            await self._join()
        return reached

    async def _join(self) -> None:
        """Look oneself up, then refresh every bucket farther away than the closest neighbour (section 2.3)."""
        await self.publisher.crawl(self.id).run()
        farther = [(bucket.lower, bucket.span) for bucket in self.table.farther_than_closest()]
        await self.maintenance.refresh_ranges(farther)

    def reunite(self, addresses: Iterable[Address]) -> Deferred[None]:
        """Greet one of the peers at (IP address, UDP port) where no contact is that answers, chosen by chance.

        It may be in a part of the network that this part has forgotten, and which has forgotten this one.  If it
        answers it is asked who is closest to us, and those that we do not know are greeted as well: at most k.
        """
        known = {entry.contact.home for entry in self.table.entries() if not entry.suspect}
        missing = [home for address in addresses if (home := _home(*address)) not in known]
        return ensureDeferred(self._reunite(self._rng.choice(missing))) if missing else succeed(None)

    async def _reunite(self, address: Address) -> None:
        greeted = await self.protocol.greet(address)
        if not greeted.happened or not is_id(greeted.value) or greeted.value == self.id:
            return
        contact = Contact(greeted.value, *address)
        self.protocol.heard_from(contact)
        answer = await self.protocol.ask(contact, "find_node", self.id)
        rows = answer.value if answer.happened and isinstance(answer.value, list) else []
        for other in map(parse_contact, rows[: self.ksize]):
            if other is not None and other.id != self.id:
                known = self.table.get(other.id)
                if known is None or known.suspect:
                    self.protocol.probe(other)

    def _joined(self, contact: Contact) -> None:
        self.handover.joined(contact)
        self.maintenance.confirm_soon()  # there may have been nobody to ask before

    # -- pairs ----------------------------------------------------------------------------------------------------

    def publish(self, key: object, value: Value) -> Deferred[Published]:
        """Publish a value under a key (bytes, or anything whose text names it).

        Fails with `ValueTooLarge`, `NoPeersReachable`, `QuotaExceeded`, or `Superseded` where another publisher of
        the key was later; `TypeError` where it is no value.
        """
        return ensureDeferred(self.publisher.publish(digest(key), value))

    def fetch(self, key: object) -> Deferred[Fetched | None]:
        """Find the value of a key; fails with `NoPeersReachable` when none of the known peers answers."""
        return ensureDeferred(self._fetch(key))

    async def _fetch(self, key: object, on_step: Callable[[Step], None] | None = None) -> Fetched | None:
        self.maintenance.notice_pause()
        return await self.publisher.fetch(digest(key), on_step)

    def trace(self, key: object) -> Deferred[dict[str, Any]]:
        """Find a value and tell how: fires with the lookup as a JSON-ready dict, found or not.

        `steps` are in the order of time; `at` and `seconds` are seconds, `distance` is 40 hex digits, `hop` counts
        the requests in a row that led to that peer.  Fails as `fetch` does.
        """
        return ensureDeferred(self._trace(key))

    async def _trace(self, key: object) -> dict[str, Any]:
        started = self._reactor.seconds()
        steps: list[Step] = []
        found = await self._fetch(key, steps.append)
        return {
            "key": key.decode("utf-8", "backslashreplace") if isinstance(key, bytes) else str(key),
            "target": digest(key).hex(),
            "found": found is not None,
            "version": None if found is None else found.version,
            "hops": max((step.hop for step in steps), default=0) if found is None else found.hops,
            "requests": sum(step.event == "asked" for step in steps),
            "seconds": round(self._reactor.seconds() - started, 6),
            "steps": [
                {
                    "at": round(step.at, 6),
                    "event": step.event,
                    "id": step.contact.id.hex(),
                    "address": step.contact.address,
                    "port": step.contact.port,
                    "distance": to_bytes(step.distance).hex(),
                    "hop": step.hop,
                    "contacts": step.contacts,
                }
                for step in steps
            ],
        }

    def set(self, key: object, value: Value) -> Deferred[bool]:
        """Publish; fires with whether any holder acknowledged it and has nothing newer.

        Fails where `value` cannot be stored.
        """

        async def published() -> bool:
            try:
                await self.publisher.publish(digest(key), value)
            except (NoPeersReachable, Superseded):
                return False
            return True

        return ensureDeferred(published())

    def get(self, key: object) -> Deferred[Value | None]:
        """Find the value of a key, or None."""

        async def fetched() -> Value | None:
            try:
                found = await self._fetch(key)
            except NoPeersReachable:
                return None
            return None if found is None else found.value

        return ensureDeferred(fetched())

    # -- looking around -------------------------------------------------------------------------------------------

    @property
    def contact_count(self) -> int:
        """How many contacts answer, as far as is known."""
        return sum(1 for entry in self.table.entries() if not entry.suspect)

    def neighbours(self) -> list[Neighbour]:
        """Return the contacts that answer, closest first."""
        now = self._reactor.seconds()
        live = [entry for entry in self.table.entries() if not entry.suspect]
        live.sort(key=lambda entry: entry.number ^ self.table.own_number)
        return [
            Neighbour(*entry.contact, to_bytes(entry.number ^ self.table.own_number), now - entry.last_seen)
            for entry in live
        ]

    def bootstrappable_neighbors(self) -> list[Address]:
        """Return (IP address, UDP port) of the k closest contacts, fit for `bootstrap`."""
        return [contact.home for contact in self.table.closest(to_int(self.id), self.ksize)]

    def inet_visible_ip(self) -> Deferred[str | None]:
        """Ask the neighbours which address they see this peer at; fires with the one most of them name."""

        async def asked() -> str | None:
            homes = self.bootstrappable_neighbors()
            answers = await gatherResults([self.protocol.call(home, "stun") for home in homes])
            seen = Counter(
                answer.value[0]
                for answer in answers
                if answer.happened
                and isinstance(answer.value, list)
                and answer.value
                and is_address(answer.value[0])
            )
            return seen.most_common(1)[0][0] if seen else None

        return ensureDeferred(asked())

    # -- state file -----------------------------------------------------------------------------------------------

    def save_state(self, path: str | Path) -> None:
        """Write who we are and whom we know to a JSON file; nothing is written while nobody is known."""
        neighbours = self.bootstrappable_neighbors()
        if neighbours:
            state.save(path, state.State(self.ksize, self.alpha, self.id, neighbours))

    @classmethod
    def load_state(cls, path: str | Path, port: int | None = None, interface: str = "", **parameters: Any) -> Self:
        """Make the peer that `save_state` wrote; with a port it also listens and bootstraps.

        Further parameters are those of the constructor.  Raises `StateFileError`; a pickle is refused.
        """
        saved = state.load(path)
        server = cls(saved.ksize, saved.alpha, saved.id, **parameters)
        if port is not None:
            server.listen(port, interface)
            server.bootstrap(saved.neighbours)
        return server

    def save_state_regularly(self, path: str | Path, frequency: float = 600) -> LoopingCall:
        """Save the state every `frequency` seconds until `stop`, and now; return the loop.

        It takes the place of an earlier one.  Raises `ConfigurationError` when `frequency` is no length of time.
        """
        if type(frequency) not in {int, float} or not (math.isfinite(frequency) and frequency > 0):
            raise ConfigurationError(f"frequency must be a positive number of seconds, not {frequency!r}")
        self._stop_saving()

        def save() -> None:
            try:
                self.save_state(path)
            except KademliaError as error:
                self.protocol.log.error("{error}", error=error)

        self._saving = LoopingCall(save)
        self._saving.clock = self._reactor
        self._saving.start(frequency)
        return self._saving

    def _stop_saving(self) -> None:
        if self._saving is not None and self._saving.running:
            self._saving.stop()

    # The names that the library's users know from its Twisted days.

    def bootstrappableNeighbors(self) -> list[Address]:  # noqa: N802
        """Return `bootstrappable_neighbors`."""
        return self.bootstrappable_neighbors()

    def inetVisibleIP(self) -> Deferred[str | None]:  # noqa: N802
        """Return `inet_visible_ip`."""
        return self.inet_visible_ip()

    def saveState(self, fname: str | Path) -> None:  # noqa: N802
        """Do `save_state`."""
        self.save_state(fname)

    @classmethod
    def loadState(cls, fname: str | Path, *args: Any, **parameters: Any) -> Self:  # noqa: N802
        """Return `load_state`."""
        return cls.load_state(fname, *args, **parameters)

    def saveStateRegularly(self, fname: str | Path, frequency: float = 600) -> LoopingCall:  # noqa: N802
        """Return `save_state_regularly`."""
        return self.save_state_regularly(fname, frequency)


def _homes(addresses: object) -> list[Address]:
    """Return the pairs of an IP address and a port; raises `BootstrapError` at what is none."""
    # A string and a single pair can be iterated over too, and would be taken for something else.
    rows = None if isinstance(addresses, str | bytes) or not isinstance(addresses, Iterable) else list(addresses)
    if rows is None or not all(isinstance(row, tuple | list) and len(row) == 2 for row in rows):
        raise BootstrapError(
            "the peers to bootstrap from are a list of pairs of an IP address and a UDP port, such as "
            f"[('127.0.0.1', 8468)], not {addresses!r:.100}"
        )
    return [_home(address, port) for address, port in rows]


def _home(address: object, port: object) -> Address:
    host = canonical(str(address))
    if host is None or type(port) is not int or not 0 < port < 65536:
        raise BootstrapError(f"{address}:{port} is not an IP address and a UDP port; names are not resolved")
    return host, port


async def _stopped(port: Any) -> None:
    result = port.stopListening()
    if result is not None:
        await result
