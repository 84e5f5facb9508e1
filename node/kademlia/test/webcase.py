"""A peer of the test's own behind the HTTP API, and a transport that takes what it is told to take."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.trial.unittest import SynchronousTestCase

from kademlia.config import Settings, StorageSettings
from kademlia.ids import digest
from kademlia.intervals import PROFILES
from kademlia.network import Fetched, Neighbour, Published
from kademlia.routing import RoutingTable
from kademlia.shim import FaultShim
from kademlia.stats import Stats
from kademlia.storage import MemoryStorage
from kademlia.timing import RoundTrips
from kademlia.web.api import API
from kademlia.web.site import PeerSite

if TYPE_CHECKING:
    from kademlia.records import Value

LIMIT = 10_000
TOKEN = b"a-long-token"
BEARER = b"Authorization: Bearer a-long-token"


class FakeServer:
    """A network that is a dictionary."""

    id = b"\x0f" * 20
    ksize, alpha, intervals, contact_count = 20, 3, PROFILES["lab"], 1
    address = ("127.0.60.1", 8468)

    def __init__(self, clock: Clock) -> None:
        self.values: dict[object, Value] = {}
        self.storage = MemoryStorage()
        self.stats = Stats()
        self.table = RoutingTable(self.id, self.ksize, 0.0)
        self.protocol = SimpleNamespace(round_trips=RoundTrips())
        self.shim = FaultShim(__import__("random").Random(1), clock)
        self.failure: Exception | None = None
        self.waiting: Deferred[Any] | None = None

    def publish(self, key: object, value: Value) -> Deferred[Published]:
        """Keep the value."""
        if self.failure is not None:
            return fail(self.failure)
        self.values[key] = value
        return succeed(Published(digest(key), 5, 3, 4))

    def fetch(self, key: object) -> Deferred[Fetched | None]:
        """Return the value, or wait, or fail, as told."""
        if self.waiting is not None:
            return self.waiting
        if self.failure is not None:
            return fail(self.failure)
        return succeed(Fetched(self.values[key], 5, 2) if key in self.values else None)

    async def trace(self, key: bytes) -> dict[str, object]:
        """Look for a value and say how little that took."""
        return {"key": key.decode(), "found": await self.fetch(key) is not None, "steps": []}

    def neighbours(self) -> list[Neighbour]:
        """Return one."""
        return [Neighbour(b"\x01" * 20, "127.0.60.2", 8469, b"\x0e" * 20, 1.23456)]


@dataclass
class FakePeer:
    """The service that the API belongs to."""

    server: Any
    settings: Settings
    state: str = "joined"
    uptime: float = 12.0
    stops: list[bool] = field(default_factory=list)

    def shut_down(self) -> None:
        """Note it."""
        self.stops.append(True)


class Transport(StringTransportWithDisconnection):
    """A transport with a port, which the status shows."""

    def __init__(self) -> None:
        super().__init__(IPv4Address("TCP", "127.0.60.1", 8080), IPv4Address("TCP", "127.0.60.9", 1234))

    def abortConnection(self) -> None:
        """Close at once."""
        self.loseConnection()


class Slow(Transport):
    """A transport whose client takes what is written only when told to, with the buffer of a real one."""

    taken = 0
    full = False
    bufferSize = 65536

    @property
    def unread(self) -> int:
        """The bytes written and not taken."""
        return len(self.value()) - self.taken

    def write(self, data: bytes) -> None:
        """Keep the bytes; stop the producer once there are too many."""
        super().write(data)
        if self.producer is not None and self.unread > self.bufferSize and not self.full:
            self.full = True
            self.producer.pauseProducing()

    def writeSequence(self, data: Any) -> None:
        """Write all of them."""
        self.write(b"".join(data))

    def take(self) -> None:
        """Take all that was written."""
        self.taken = len(self.value())
        if self.full:
            self.full = False
            producer: Any = self.producer
            producer.resumeProducing()

    def loseConnection(self) -> None:
        """Close once everything was taken."""
        self.disconnecting = True
        if not self.unread:
            super().loseConnection()

    def abortConnection(self) -> None:
        """Close at once."""
        super().loseConnection()


class Answer:
    """A parsed response."""

    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        self.code = int(status.split(" ")[1])
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}

    @property
    def json(self) -> Any:
        """The body's JSON."""
        return json.loads(self.body)


class WebCase(SynchronousTestCase):
    """One peer's site on a clock of the test's own."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.server = FakeServer(self.clock)
        self.peer = FakePeer(self.server, Settings("127.0.60.1", storage=StorageSettings("memory"), token=TOKEN))
        self.serve()

    def serve(self) -> None:
        """Build the site for the peer as it is now."""
        self.site = PeerSite(API(self.peer, self.clock).resource(), LIMIT, self.clock)

    def connect(self, transport: Any = None) -> tuple[Any, Any]:
        """Open a connection."""
        channel = self.site.buildProtocol(None)
        transport = transport or Transport()
        transport.protocol = channel
        channel.makeConnection(transport)
        return channel, transport

    def raw(self, data: bytes) -> bytes:
        """Send bytes over a connection of their own; returns what came back so far."""
        channel, transport = self.connect()
        channel.dataReceived(data)
        return bytes(transport.value())

    def ask(self, method: bytes, path: bytes, body: bytes = b"", *headers: bytes) -> Answer:
        """Make one request."""
        lines = [method + b" " + path + b" HTTP/1.1", b"Host: peer", *headers]
        if body:
            lines.append(b"Content-Length: %d" % len(body))
        return Answer(self.raw(b"\r\n".join([*lines, b"", body])))
