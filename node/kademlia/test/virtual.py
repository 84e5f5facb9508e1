"""A network without sockets: peers on one clock, datagrams delivered by it, every loss decided by the test."""

from __future__ import annotations

import random
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from kademlia.codec import REQUEST, decode
from kademlia.ids import digest, to_int
from kademlia.intervals import PROFILES
from kademlia.network import Server

if TYPE_CHECKING:
    from collections.abc import Callable

    from kademlia.protocol import KademliaProtocol

Address = tuple[str, int]
T = TypeVar("T")

#: the paper's hour and day, at the speed of the profile "lab"
HOUR = PROFILES["lab"].replicate
DAY = PROFILES["lab"].expire
#: wall-clock seconds at the clock's zero
EPOCH = 1_700_000_000.0


class Port:
    """A bound UDP port of the virtual network."""

    maxPacketSize = 8192

    def __init__(self, network: Network, address: Address, protocol: KademliaProtocol) -> None:
        self.network = network
        self.address = address
        self.protocol = protocol

    @property
    def host(self) -> str:
        """The IP address, as Twisted's address objects name it."""
        return self.address[0]

    @property
    def port(self) -> int:
        """The UDP port, as Twisted's address objects name it."""
        return self.address[1]

    def getHost(self) -> Port:
        """Return what has `host` and `port`."""
        return self

    def write(self, datagram: bytes, address: Address) -> None:
        """Send."""
        self.network.send(datagram, self.address, address)

    def stopListening(self) -> Deferred[None]:
        """Unbind."""
        self.network.ports.pop(self.address, None)
        self.protocol.stopProtocol()
        return succeed(None)


class Network(Clock):
    """The reactor of every peer in it.  `latency` is seconds one way; `lost` decides on each datagram."""

    def __init__(self, latency: float = 0.001) -> None:
        super().__init__()
        self.latency = latency
        self.ports: dict[Address, Port] = {}
        self.servers: list[Server] = []
        self._started = 0
        self.lost: Callable[[Address, Address], bool] = lambda source, target: False
        #: (source, target, datagram) of everything sent, lost or not
        self.sent: list[tuple[Address, Address, bytes]] = []

    def wall(self) -> float:
        """Return wall-clock seconds."""
        return EPOCH + self.seconds()

    def listenUDP(self, port: int, protocol: Any, interface: str = "", maxPacketSize: int = 8192) -> Port:
        """Bind a protocol, as a Twisted reactor does."""
        bound = Port(self, (interface, port), protocol)
        self.ports[bound.address] = bound
        protocol.transport = bound
        protocol.startProtocol()
        return bound

    def send(self, datagram: bytes, source: Address, target: Address) -> None:
        """Carry a datagram, unless it is lost or nobody is there when it arrives."""
        self.sent.append((source, target, datagram))
        if not self.lost(source, target):
            self.callLater(self.latency, self._deliver, datagram, source, target)

    def _deliver(self, datagram: bytes, source: Address, target: Address) -> None:
        port = self.ports.get(target)
        if port is not None:
            port.protocol.datagramReceived(datagram, source)

    def run(self, seconds: float) -> None:
        """Let time pass, from one event to the next."""
        end = self.seconds() + seconds
        while self.calls and self.calls[0].getTime() <= end:
            self.advance(max(0.0, self.calls[0].getTime() - self.seconds()))
        self.advance(end - self.seconds())

    def result(self, deferred: Deferred[T], within: float = 60.0) -> T:
        """Let time pass until a Deferred fires, and return what it fired with or raise what it failed with."""
        outcome: list[Any] = []
        deferred.addBoth(outcome.append)
        end = self.seconds() + within
        while not outcome:
            if self.seconds() > end:
                raise AssertionError(f"nothing came of it within {within} s")
            self.advance(min(self.latency, 0.01))  # or timers would be as coarse as the network is slow
        if hasattr(outcome[0], "raiseException"):
            outcome[0].raiseException()
        answer: T = outcome[0]
        return answer

    def server(self, number: int, **parameters: Any) -> Server:
        """Start the peer of that number at an address of its own, without bootstrapping it."""
        parameters.setdefault("id", digest(f"peer {number}"))
        parameters.setdefault("intervals", PROFILES["lab"])
        self._started += 1
        server = Server(reactor=self, rng=random.Random(self._started), wall=self.wall, **parameters)
        server.listen(8468, str(ip_address("10.0.0.1") + number))
        self.servers.append(server)
        return server

    def grow(self, count: int, **parameters: Any) -> list[Server]:
        """Start peers and join them, the first one being everybody's bootstrap peer."""
        for number in range(len(self.servers), len(self.servers) + count):
            server = self.server(number, **parameters)
            if number:
                assert self.result(server.bootstrap([home(self.servers[0])]))
        return self.servers

    def kill(self, server: Server) -> None:
        """Let a peer be gone from one moment to the next."""
        self.ports.pop(home(server))
        server.maintenance.stop()
        server.handover.stop()
        self.servers.remove(server)

    def closest(self, key: bytes, count: int) -> list[Server]:
        """Return the live peers that are truly closest to a key."""
        return sorted(self.servers, key=lambda server: to_int(server.id) ^ to_int(key))[:count]

    def holders(self, key: bytes) -> list[Server]:
        """Return the live peers that hold a key."""
        return [server for server in self.servers if server.publisher.keeper.get(key) is not None]


def home(server: Server) -> Address:
    """Return where a peer listens."""
    address = server.address
    assert address is not None
    return address


def requests(network: Network, name: str) -> list[tuple[Address, Address]]:
    """Return source and target of every distinct request of that name sent so far."""
    found = {}
    for source, target, datagram in network.sent:
        message = decode(datagram)
        if message.kind == REQUEST and message.body[0] == name:
            found[message.rpc_id] = (source, target)
    return list(found.values())
