"""Whatever arrives: datagrams, requests and configurations drawn at random, a little of it on every run.

The long runs, and those guided by coverage, are in `tests/fuzz` of the repository.
"""

from __future__ import annotations

from pathlib import Path

import msgpack
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kademlia.codec import RESPONSE, decode
from kademlia.config import Settings, load_settings
from kademlia.errors import ConfigurationError
from kademlia.routing import REPLACEMENT_FACTOR
from kademlia.test.virtual import Network, home
from kademlia.test.webcase import LIMIT, FakePeer, Transport
from kademlia.web.api import API
from kademlia.web.site import PeerSite

identifiers = st.one_of(
    st.binary(min_size=20, max_size=20), st.integers(0, 255).map(lambda byte: bytes([byte]) * 20)
)
things = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(), st.binary()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=5,
)
arguments = st.lists(st.one_of(identifiers, things), max_size=4)
names = st.sampled_from(
    ("ping", "store", "find_node", "find_value", "offer", "part", "stun", "__init__", "nonsense")
)
marks = st.fixed_dictionaries({"v": st.integers(1, 2**62)}, optional={"p": things, "doubtful": things})
extensions = st.one_of(st.just(b""), st.binary(max_size=9), things.map(msgpack.packb), marks.map(msgpack.packb))
requests = st.builds(
    lambda name, args, extension: b"\0" + bytes(20) + msgpack.packb([name, args]) + extension,
    names,
    arguments,
    extensions,
)
contacts = st.tuples(identifiers, st.sampled_from(("10.0.0.2", "::1", "localhost", "")), st.integers(-1, 65536))
described = st.builds(
    lambda size, digest: {"parts": [size, digest]}, st.integers(8141, 2**21), st.binary(min_size=32, max_size=32)
)
answers = st.one_of(things, described, st.lists(st.one_of(contacts, things), max_size=25))


class Datagrams(SynchronousTestCase):
    """Nothing in a datagram raises, is logged as an error, or fills a table beyond its bound."""

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(st.tuples(st.one_of(requests, st.binary(max_size=40)), st.integers(1, 20)), max_size=25))
    def test_no_datagram_makes_a_peer_fail(self, datagrams: list[tuple[bytes, int]]) -> None:
        """Requests of any shape, from many; the peer answers a good one after all of them."""
        network = Network(latency=0.001)
        first, second = (network.server(number, ksize=3) for number in range(2))
        for datagram, sender in datagrams:
            first.protocol.datagramReceived(datagram, (f"10.2.0.{sender}", 1000 + sender))
        network.run(0.5)
        for bucket in first.table.buckets:
            self.assertLessEqual(len(bucket.entries), 3)
            self.assertLessEqual(len(bucket.replacements), 3 * REPLACEMENT_FACTOR)
        self.assertTrue(network.result(second.protocol.greet(home(first))).happened)
        self.assertEqual(self.flushLoggedErrors(), [])

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(st.tuples(answers, extensions), min_size=1, max_size=8))
    def test_no_answer_makes_a_lookup_fail(self, given_answers: list[tuple[object, bytes]]) -> None:
        """It ends, with a value or without one, and nothing of it is left."""
        network = Network(latency=0.001)
        peer, liar = (network.server(number, ksize=3) for number in range(2))
        told = iter(given_answers * 50)

        def lie(datagram: bytes, address: tuple[str, int]) -> None:
            message = decode(datagram)
            if message.kind != RESPONSE:
                value, extension = next(told)
                lies = b"\1" + message.rpc_id + msgpack.packb(value) + extension
                network.send(lies, home(liar), address)

        liar.protocol.datagramReceived = lie  # type: ignore[method-assign,assignment]
        peer.protocol.datagramReceived(b"\0" + bytes(20) + msgpack.packb(["ping", [liar.id]]), home(liar))
        network.result(peer.get("key"))
        network.result(peer.set("key", b"value"))
        self.assertEqual(self.flushLoggedErrors(), [])
        peer.protocol.stopProtocol()
        self.assertEqual(peer.protocol._calls, {})


class Requests(SynchronousTestCase):
    """Nothing that arrives on a connection is a failure of the peer's, or outlives the connection."""

    lines = st.one_of(
        st.sampled_from(
            (
                b"GET / HTTP/1.1",
                b"PUT /dht/k HTTP/1.1",
                b"GET /storage?limit=1 HTTP/1.0",
                b"POST /control/faults HTTP/1.1",
                b"GET /metrics HTTP/1.1",
                b"Host: x",
                b"Content-Length: 3",
                b"Transfer-Encoding: chunked",
                b"",
                b"",
                b"3",
                b"0",
                b"Expect: 100-continue",
                b"Accept: \xff",
                b"Connection: close",
            )
        ),
        st.binary(max_size=20),
    )

    def setUp(self) -> None:
        self.network = Network(latency=0.001)
        self.server = self.network.server(0)
        self.site = PeerSite(
            API(FakePeer(self.server, Settings("10.0.0.1")), self.network).resource(), LIMIT, self.network
        )

    @settings(max_examples=150, deadline=None)
    @given(st.lists(lines, max_size=8), st.integers(1, 40))
    def test_no_bytes_make_the_webserver_fail(self, sent: list[bytes], size: int) -> None:
        """In whatever pieces they come."""
        channel, transport = self.site.buildProtocol(None), Transport()
        transport.protocol = channel
        channel.makeConnection(transport)
        data = b"\r\n".join(sent)
        for start in range(0, len(data), size):
            if transport.connected:
                channel.dataReceived(data[start : start + size])
        self.network.run(0.1)
        self.assertNotIn(b" 500 ", transport.value())
        if transport.connected:
            transport.loseConnection()
        self.assertEqual(self.site.channels, set())
        self.assertEqual(self.flushLoggedErrors(), [])


class Configurations(SynchronousTestCase):
    """A text is settings, or a refusal that names the file."""

    keys = st.sampled_from(
        (
            "address",
            "port",
            "bootstrap",
            "data_dir",
            "id",
            "ksize",
            "profile",
            "refresh",
            "kind",
            "level",
            "format",
            "x",
        )
    )
    values = st.one_of(
        st.sampled_from(
            ('"127.0.0.1"', '"::1"', '["[::1]:1"]', "1", "-1", "nan", '"lab"', '"memory"', '"."', "{}")
        ),
        st.text(max_size=8),
    )
    tables = st.sampled_from(("[node]", "[http]", "[intervals]", "[storage]", "[log]", "[control]", "[x]"))
    lines = st.one_of(tables, st.builds("{} = {}".format, keys, values), st.text(max_size=10))

    @settings(max_examples=200, deadline=None)
    @given(st.lists(lines, max_size=8), st.booleans())
    def test_no_text_fails_otherwise(self, lines: list[str], sensible: bool) -> None:
        """Neither a line that means nothing nor a value of another type."""
        file = Path(self.mktemp()).absolute()
        file.parent.mkdir(parents=True, exist_ok=True)
        start = ["[node]", 'address = "127.0.0.1"', 'data_dir = "."'] if sensible else []
        file.write_text("\n".join([*start, *lines]), encoding="utf-8", errors="surrogatepass")
        try:
            load_settings(file)
        except ConfigurationError as error:
            self.assertIn(str(file), str(error))
