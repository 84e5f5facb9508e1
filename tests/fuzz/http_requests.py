"""HTTP requests from anybody into a peer's webserver."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any, Final

import kademlia.web.metrics  # noqa: F401  (else imported by the first scrape, after atheris has looked for its guides)
from harness import Finding, Reactor, main
from kademlia.config import Settings
from kademlia.ids import digest
from kademlia.network import Server
from kademlia.service import BODY_LIMIT
from kademlia.shim import FaultShim
from kademlia.storage import MemoryStorage
from kademlia.web.api import API
from kademlia.web.site import MAX_CONNECTIONS, PeerSite
from twisted.internet.address import IPv4Address
from twisted.internet.testing import StringTransportWithDisconnection

METHODS: Final = (b"GET", b"PUT", b"POST", b"HEAD", b"DELETE", b"OPTIONS", b"BREW", b"", b"get")
PATHS: Final = (
    b"/", b"/dht/", b"/dht/one", b"/dht/%00%ff", b"/dht/one?trace=1", b"/dht/a/../b", b"/neighbours", b"/storage",
    b"/storage?limit=2&after=", b"/status", b"/healthz", b"/metrics", b"/openapi.yaml", b"/control/shutdown",
    b"/control/faults", b"*", b"http://x/status", b"//", b"/\xff",
)  # fmt: skip
HEADERS: Final = (
    b"Host: x", b"Content-Length: 5", b"Content-Length: -1", b"Content-Length: 99999999999", b"Connection: close",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked", b"Expect: 100-continue",
    b"Authorization: Bearer fuzz-token", b"Authorization: Basic \xff", b"Accept: application/openmetrics-text",
    b"Accept: text/plain;q=nan", b"Accept: application/openmetrics-text;version=x",
    b"Content-Type: multipart/form-data", b"Range: bytes=0-1",
    b"no colon", b": empty", b" folded", b"X: " + b"y" * 5000, b"If-None-Match: *",
    b"Upgrade: h2c", b"Cookie: a=b;;=",
)  # fmt: skip
BODIES: Final = (
    b"", b"value", b'{"loss": 0.5}', b'{"blocked": ["127.0.0.1:1"]}', b'{"loss": 1e999}', b"[" * 3000,
    b"5\r\nvalue\r\n0\r\n\r\n", b"ffffffffffffffffff\r\n", b"-1\r\n", b"0\r\nTrailer: x\r\n\r\n", b"x" * 70_000,
)  # fmt: skip


class Transport(StringTransportWithDisconnection):
    """A connection that can be aborted."""

    def abortConnection(self) -> None:  # noqa: N802
        """Close at once."""
        self.loseConnection()


class Requests:
    """Each input is what arrives on a connection of its own, in the pieces that its first byte tells."""

    def __init__(self) -> None:
        self.reactor = Reactor()
        rng = random.Random(1)
        self.server = Server(
            reactor=self.reactor,
            rng=rng,
            storage=MemoryStorage(100, 1 << 20),
            shim=FaultShim(rng, self.reactor),
            wall=lambda: 1_700_000_000.0,
        )
        for number in range(20):
            self.server.protocol.keeper.accept(digest(str(number)), b"value", 1, 1e6)
        self.server.protocol.keeper.accept(digest("one"), b"value", 1, 1e6)
        peer: Any = SimpleNamespace(
            server=self.server,
            settings=Settings("127.0.0.1", token=b"fuzz-token"),
            state="alone",
            uptime=1.0,
            shut_down=lambda: None,
        )
        self.site = PeerSite(API(peer, self.reactor).resource(), BODY_LIMIT, self.reactor)

    def one(self, data: bytes) -> None:
        """Let it arrive, and close the connection."""
        if len(self.site.channels) >= MAX_CONNECTIONS:
            raise Finding(f"{len(self.site.channels)} connections are still counted")
        channel: Any = self.site.buildProtocol(None)
        transport = Transport(IPv4Address("TCP", "127.0.0.1", 80), IPv4Address("TCP", "127.0.0.1", 1))
        transport.protocol = channel
        channel.makeConnection(transport)
        pieces, rest = (data[0] % 4 + 1, data[1:]) if data else (1, b"")
        size = max(1, len(rest) // pieces)
        for start in range(0, len(rest), size):
            if transport.connected:
                channel.dataReceived(rest[start : start + size])
        answer = transport.value()
        for status in (b"HTTP/1.1 500", b"HTTP/1.0 500"):
            if status in answer:
                raise Finding(f"{status!r} in {answer[:200]!r}")
        if transport.connected:
            transport.loseConnection()

    def rest(self) -> None:
        """Let what takes several turns end."""
        self.reactor.advance(0.01)

    def check(self) -> dict[str, int]:
        """Nothing of a connection may outlive it."""
        self.reactor.advance(120)
        sizes = {
            "connections": len(self.site.channels),
            "timers": self.reactor.pending,
            "keys": self.server.storage.count,
            "calls": len(self.server.protocol._calls),
        }
        for name, bound in {"connections": 0, "timers": 1, "keys": 100, "calls": 0}.items():
            if sizes[name] > bound:
                raise Finding(f"{sizes[name]} {name} are left")
        return sizes

    def draw(self, rng: random.Random) -> bytes:
        """Return a few requests in a row, whole or damaged."""
        data = bytearray([rng.getrandbits(8)])
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            body = rng.choice(BODIES) if rng.random() < 0.5 else rng.randbytes(rng.randrange(50))
            lines = [
                rng.choice(METHODS) + b" " + rng.choice(PATHS) + rng.choice((b" HTTP/1.1", b" HTTP/1.0", b""))
            ]
            lines += [rng.choice(HEADERS) for _ in range(rng.randrange(5))]
            if rng.random() < 0.5:
                lines.append(b"Content-Length: %d" % len(body))
            data += b"\r\n".join([*lines, b"", body])
        if rng.random() < 0.3:
            at = rng.randrange(1, len(data))
            data[at : at + rng.randrange(4)] = rng.randbytes(rng.randrange(4))
        return bytes(data)


if __name__ == "__main__":
    main(Requests)
