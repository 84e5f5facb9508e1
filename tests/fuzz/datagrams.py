"""Datagrams from anywhere into a peer that looks up, stores and maintains meanwhile."""

from __future__ import annotations

import hashlib
import random
from typing import Any, Final

import msgpack
from harness import Finding, Reactor, main
from kademlia.intervals import PROFILES
from kademlia.network import Server
from kademlia.parts import PART
from kademlia.routing import REPLACEMENT_FACTOR
from kademlia.speakers import CAPACITY as SPEAKERS
from kademlia.storage import MemoryStorage
from kademlia.timing import CAPACITY
from kademlia.transfers import MAX_REFUSED

MAX_KEYS: Final = 300
MAX_BYTES: Final = 4 << 20
#: seconds that pass with each datagram: two thousand a second reach the peer
TICK: Final = 0.0005
#: calls, timers and the like under way at once: what two thousand datagrams a second lead to in a few seconds
UNDER_WAY: Final = 20_000

RAW, REQUEST, ANSWER, FORGED = range(4)
METHODS: Final = ("ping", "store", "find_node", "find_value", "offer", "part", "stun", "__init__", "call", "")
WORDS: Final = ("b", "v", "t", "p", "full", "doubtful", "error", "value", "")
#: a large value of which the parts that are drawn are parts, so that some transfers come to their end
LARGE: Final = msgpack.packb(bytes(9_000))
NAME: Final = [len(LARGE), hashlib.sha256(LARGE).digest()]


class Datagrams:
    """The first byte of an input says how the rest reaches the peer; a real one is in front of the network."""

    def __init__(self) -> None:
        self.reactor = Reactor()
        self.server = Server(
            id=b"\x55" * 20,
            storage=MemoryStorage(MAX_KEYS, MAX_BYTES),
            intervals=PROFILES["lab"],
            reactor=self.reactor,
            rng=random.Random(1),
            wall=lambda: 1_700_000_000.0 + self.reactor.seconds(),
        )
        self.server.listen(8468, "127.0.0.1")
        self._rng = random.Random(2)
        self._taken = 0
        self._waiting = 0

    # -- taking inputs --------------------------------------------------------------------------------------------

    def one(self, data: bytes) -> None:
        """Deliver one datagram."""
        self._taken += 1
        if self._taken % 400 == 0 and self._waiting < 50:
            self._work()
        way, rest = (data[0], data[1:]) if data else (RAW, b"")
        where: tuple[Any, ...] = (f"10.0.{way & 3}.{way >> 2}", 1024 + way)
        if way & 0x80:  # as Twisted names IPv6 senders
            where = (f"fd00::{way:x}", 1024 + way, 0, 0)
        kind = way & 3
        sent = self.reactor.sent
        if kind == REQUEST:
            rest = b"\0" + self._taken.to_bytes(20, "big") + rest
        elif kind in (ANSWER, FORGED) and sent:
            head, home = sent.pop((way >> 2) % len(sent) - len(sent) // 2)
            rest = b"\x01" + head[1:] + rest
            where = home if kind == ANSWER else where
        self.server.protocol.datagramReceived(rest, where)

    def rest(self) -> None:
        """Let time pass."""
        self.reactor.advance(TICK)

    def _work(self) -> None:
        """Let the peer want something, so that there is something to answer."""
        self._waiting += 1
        key = self._rng.randrange(50)
        wanted: Any = self.server.get(key) if self._taken % 800 else self.server.set(key, self._rng.randbytes(20))

        def done(result: object) -> object:
            self._waiting -= 1
            return result

        wanted.addBoth(done)
        wanted.addErrback(lambda failure: failure.trap(Exception) and None)  # full holders and the like

    def check(self) -> dict[str, int]:
        """Hold the peer's tables against their bounds."""
        server, table = self.server, self.server.table
        for bucket in table.buckets:
            if len(bucket.entries) > table.ksize:
                raise Finding(f"a bucket of {len(bucket.entries)} contacts")
            if len(bucket.replacements) > table.ksize * REPLACEMENT_FACTOR:
                raise Finding(f"a replacement cache of {len(bucket.replacements)}")
        sizes = {
            "contacts": len(table),
            "buckets": len(table.buckets),
            "calls": len(server.protocol._calls),
            "probes": len(server.protocol._probing),
            "timers": self.reactor.pending,
            "measured": len(server.protocol.round_trips._known),
            "keys": server.storage.count,
            "bytes": server.storage.size,
            "lookups": self._waiting,
            "pulls": len(server.protocol.transfers.pulls),
            "assembling": server.protocol.transfers.pulls.reserved,
            "refused": len(server.protocol.transfers._refused),
            "speakers": len(server.protocol.transfers.speakers._limits),
        }
        bounds = {
            "calls": UNDER_WAY, "probes": UNDER_WAY, "timers": UNDER_WAY, "measured": CAPACITY, "keys": MAX_KEYS,
            "bytes": MAX_BYTES, "buckets": 160 * 32, "contacts": 160 * 32 * table.ksize,
            "pulls": 200, "assembling": server.protocol.transfers.pulls.budget, "refused": MAX_REFUSED,
            "speakers": SPEAKERS,
        }  # fmt: skip
        for name, bound in bounds.items():
            if sizes[name] > bound:
                raise Finding(f"{sizes[name]} {name}; the bound is {bound}")
        return sizes

    # -- drawing inputs -------------------------------------------------------------------------------------------

    def draw(self, rng: random.Random) -> bytes:
        """Return noise, a request or an answer, whole or damaged."""
        way = rng.getrandbits(8)
        kind = way & 3
        if kind == RAW:
            return bytes([way]) + rng.randbytes(rng.randrange(64))
        if kind == REQUEST:
            name = METHODS[min(rng.randrange(12), 9)] if rng.random() < 0.2 else METHODS[rng.randrange(6)]
            body: object = [name, self._arguments(rng, name)]
        else:
            body = self._answer(rng)
        packed: bytes = msgpack.packb(body)
        if kind == REQUEST and name == "offer" and rng.random() < 0.8:
            packed += msgpack.packb({"v": rng.getrandbits(40) + 1, "t": rng.random() * 1e5})
        elif rng.random() < 0.4:
            packed += msgpack.packb({rng.choice(WORDS): self._thing(rng, 1) for _ in range(rng.randrange(4))})
        if rng.random() < 0.1:
            at = rng.randrange(len(packed))
            packed = packed[:at] + rng.randbytes(rng.randrange(3)) + packed[at + rng.randrange(3) :]
        elif rng.random() < 0.0005:
            packed = rng.choice((b"\x91", b"\x81\x01", b"\x81", b"\xdc\xff\xff")) * rng.randrange(30_000) + packed
            packed = packed[:65_480]
        return bytes([way]) + packed

    def _id(self, rng: random.Random) -> bytes:
        """Return a node ID or key: one of few, one near the peer, or any."""
        dice = rng.random()
        if dice < 0.9:
            return bytes([rng.getrandbits(8)]) * 20
        if dice < 0.95:
            same = rng.randrange(21)
            return b"\x55" * same + rng.randbytes(20 - same)
        return rng.randbytes(20)

    def _arguments(self, rng: random.Random, name: str) -> list[object]:
        arguments: list[object] = [] if name == "stun" else [self._id(rng)]
        if name in ("store", "find_node", "find_value", "offer", "part"):
            arguments.append(self._id(rng))
        if name == "store":
            arguments.append(rng.randbytes(rng.randrange(2000)) if rng.random() < 0.1 else self._thing(rng, 0))
        if name == "offer":
            arguments += self._name(rng)
        elif name == "part":
            arguments += [self._name(rng)[1], rng.choice((0, PART, rng.getrandbits(32)))]
        if rng.random() < 0.05:
            arguments.insert(rng.randrange(len(arguments) + 1), self._thing(rng, 2))
        if rng.random() < 0.05 and arguments:
            arguments[rng.randrange(len(arguments))] = self._thing(rng, 2)
        return arguments

    def _answer(self, rng: random.Random) -> object:
        dice = rng.random()
        if dice < 0.5:
            return [self._contact(rng) for _ in range(rng.randrange(25))]
        if dice < 0.6:
            return {"value": self._thing(rng, 1)}
        if dice < 0.65:
            return {"parts": self._name(rng)}
        if dice < 0.8:
            return rng.choice((LARGE[:PART], LARGE[PART:], rng.randbytes(PART)))
        return rng.choice((True, False, None, self._id(rng), self._thing(rng, 3)))

    def _name(self, rng: random.Random) -> list[object]:
        """Return the size and the digest of a large value, mostly of one that parts are drawn from."""
        if rng.random() < 0.8:
            return [*NAME]
        return [rng.choice((rng.getrandbits(33), 8141, -1)), rng.randbytes(rng.choice((32, 32, 20)))]

    def _contact(self, rng: random.Random) -> object:
        address = rng.choice(("10.1.0.1", "fd00::1", "255.255.255.255", "localhost", "::ffff:1.2.3.4", ""))
        port = rng.choice((1, 65535, 0, -1, 65536, rng.getrandbits(16), True))
        row: list[object] = [self._id(rng), address, port]
        if rng.random() < 0.05:
            row[rng.randrange(3)] = self._thing(rng, 2)
        return row

    def _thing(self, rng: random.Random, depth: int) -> object:
        """Return any value that msgpack carries."""
        dice = rng.randrange(11 if depth else 8)
        if dice < 8:
            return (
                rng.randbytes(rng.randrange(30)), "text\x00é", rng.getrandbits(64), -rng.getrandbits(63), 1.5,
                float("inf"), True, None,
            )[dice]  # fmt: skip
        inner = [self._thing(rng, depth - 1) for _ in range(rng.randrange(4))]
        return inner if dice < 10 else {str(index): value for index, value in enumerate(inner)}


if __name__ == "__main__":
    main(Datagrams)
