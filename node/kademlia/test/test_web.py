"""The HTTP endpoints, spoken to byte by byte on a transport without sockets."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.trial.unittest import SynchronousTestCase
from twisted.web import http_headers

from kademlia.config import Settings, StorageSettings
from kademlia.errors import NoPeersReachable, QuotaExceeded, StorageError, Superseded, ValueTooLarge
from kademlia.ids import digest
from kademlia.intervals import PROFILES
from kademlia.network import Fetched, Neighbour, Published
from kademlia.records import Record, Value
from kademlia.routing import RoutingTable
from kademlia.shim import FaultShim
from kademlia.stats import Stats
from kademlia.storage import MemoryStorage
from kademlia.timing import RoundTrips
from kademlia.web import site as web_site
from kademlia.web.api import API
from kademlia.web.site import PeerSite

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


class Values(WebCase):
    """PUT and GET of values."""

    def test_a_value_comes_back_as_it_was_put(self) -> None:
        """With the documented answer and headers."""
        put = self.ask(b"PUT", b"/dht/one", b"hi there")
        self.assertEqual(put.code, 200)
        expected = {
            "key": "one",
            "digest": digest("one").hex(),
            "version": 5,
            "replicas": 3,
            "asked": 4,
            "size": 8,
        }
        self.assertEqual(put.json, expected)
        got = self.ask(b"GET", b"/dht/one")
        self.assertEqual((got.code, got.body), (200, b"hi there"))
        self.assertEqual(got.headers["content-type"], "application/octet-stream")
        self.assertEqual((got.headers["x-kademlia-version"], got.headers["x-kademlia-hops"]), ("5", "2"))
        self.assertEqual(got.headers["x-content-type-options"], "nosniff")

    def test_head_has_the_headers_of_get_and_no_body(self) -> None:
        """Its length included."""
        self.server.values[b"one"] = b"hi there"
        got = self.ask(b"HEAD", b"/dht/one")
        self.assertEqual((got.code, got.body, got.headers["content-length"]), (200, b"", "8"))

    def test_a_posted_form_is_a_value_and_not_a_form(self) -> None:
        """`curl --data` calls everything a form; a broken multipart is a value, too."""
        for kind in (b"application/x-www-form-urlencoded", b"multipart/form-data; boundary=x", b"\xff"):
            self.assertEqual(self.ask(b"POST", b"/dht/k", b"a=1&b", b"Content-Type: " + kind).code, 200)
            self.assertEqual(self.server.values[b"k"], b"a=1&b")

    def test_values_of_plain_peers_are_shown_as_text(self) -> None:
        """A stock peer stores numbers and text."""
        self.server.values.update({b"n": 7, b"t": "é"})
        self.assertEqual(self.ask(b"GET", b"/dht/n").body, b"7")
        self.assertEqual(self.ask(b"GET", b"/dht/t").body, "é".encode())

    def test_an_empty_value_is_a_value(self) -> None:
        """It is not a missing one."""
        self.assertEqual(self.ask(b"PUT", b"/dht/k").code, 200)
        got = self.ask(b"GET", b"/dht/k")
        self.assertEqual((got.code, got.headers["content-length"]), (200, "0"))

    def test_a_missing_value_is_a_404_in_json(self) -> None:
        """As every error."""
        got = self.ask(b"GET", b"/dht/none")
        self.assertEqual((got.code, got.headers["content-type"]), (404, "application/json"))
        self.assertEqual(list(got.json), ["error"])

    def test_the_key_is_the_whole_decoded_path(self) -> None:
        """Slashes, escaped or not, NUL, bytes that are no UTF-8, dots, a colon; the query is no part of it."""
        for path, key in (
            (b"a/b", b"a/b"), (b"a%2Fb", b"a/b"), (b"/", b"/"), (b"a//b/", b"a//b/"), (b"%00", b"\0"),
            (b"%ff%FE", b"\xff\xfe"), (b"%c3%a9", "é".encode()), (b"..", b".."), (b"a+b", b"a+b"),
            (b"k?trace=0", b"k"), (b"%", b"%"), (b"%zz", b"%zz"), (b"x" * 1024, b"x" * 1024), (b"a:b", b"a:b"),
        ):  # fmt: skip
            self.server.values.clear()
            self.assertEqual(self.ask(b"PUT", b"/dht/" + path, b"v").code, 200, path)
            self.assertEqual(list(self.server.values), [key])
            self.assertEqual(self.ask(b"GET", b"/dht/" + path).body, b"v")

    def test_empty_and_overlong_keys_are_refused(self) -> None:
        """400 and 414."""
        self.assertEqual(self.ask(b"PUT", b"/dht/", b"v").code, 400)
        self.assertEqual(self.ask(b"GET", b"/dht/" + b"x" * 1025).code, 414)
        self.assertEqual(self.server.values, {})

    def test_the_network_s_refusals_have_their_own_status(self) -> None:
        """And say what the error says."""
        for failure, code in (
            (ValueTooLarge("too large"), 413), (NoPeersReachable("nobody"), 503), (QuotaExceeded("full"), 507),
            (Superseded("newer"), 409),
        ):  # fmt: skip
            self.server.failure = failure
            answer = self.ask(b"PUT", b"/dht/k", b"v")
            self.assertEqual((answer.code, answer.json), (code, {"error": str(failure)}))

    def test_an_unexpected_error_is_logged_and_not_shown(self) -> None:
        """No traceback reaches a client, nor a path of this host."""
        for failure in (ZeroDivisionError("secret"), StorageError("secret")):
            self.server.failure = failure
            answer = self.ask(b"GET", b"/dht/k")
            self.assertEqual(answer.code, 500)
            self.assertNotIn(b"secret", answer.body)
            self.assertEqual(len(self.flushLoggedErrors(type(failure))), 1)

    def test_a_trace_is_the_lookup_instead_of_the_value(self) -> None:
        """Also where there is no value: how it was looked for is an answer of its own."""
        self.server.values[b"one"] = b"hi there"
        for key, found in ((b"one", True), (b"none", False)):
            answer = self.ask(b"GET", b"/dht/" + key + b"?trace=1")
            self.assertEqual((answer.code, answer.headers["content-type"]), (200, "application/json"))
            self.assertEqual(answer.json, {"key": key.decode(), "found": found, "steps": []})
        self.server.failure = NoPeersReachable("nobody")
        self.assertEqual(self.ask(b"GET", b"/dht/one?trace=1").code, 503)

    def test_a_trace_is_asked_for_with_0_or_1(self) -> None:
        """Anything else is a bad request that says so."""
        for query in (b"trace=", b"trace=yes", b"trace=1&trace=1", b"trace=%ff"):
            answer = self.ask(b"GET", b"/dht/one?" + query)
            self.assertEqual(answer.code, 400, query)
            self.assertIn("trace must be 0 or 1", answer.json["error"])

    def test_a_client_that_leaves_cancels_its_lookup(self) -> None:
        """Nothing is logged as an error."""
        self.server.waiting = Deferred()
        channel, transport = self.connect()
        channel.dataReceived(b"GET /dht/k HTTP/1.1\r\nHost: x\r\n\r\n")
        waiting, self.server.waiting = self.server.waiting, None
        transport.loseConnection()
        self.assertTrue(waiting.called)


class Limits(WebCase):
    """What a client may cost."""

    def test_an_announced_body_over_the_limit_is_refused_at_once(self) -> None:
        """Before a byte of it was sent, without inviting it, and the connection ends."""
        channel, transport = self.connect()
        channel.dataReceived(
            b"PUT /dht/k HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 10001\r\n\r\n"
        )
        answer = Answer(transport.value())
        self.assertEqual((answer.code, answer.headers["connection"]), (413, "close"))
        self.assertIn("10000", answer.json["error"])
        self.assertNotIn(b"100 Continue", transport.value())
        self.assertFalse(transport.connected)

    def test_a_chunked_body_is_refused_as_soon_as_it_is_too_large(self) -> None:
        """What is held never exceeds the limit."""
        channel, transport = self.connect()
        channel.dataReceived(b"PUT /dht/k HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(10):
            channel.dataReceived(b"3e8\r\n" + b"x" * 1000 + b"\r\n")
        self.assertEqual(transport.value(), b"")
        channel.dataReceived(b"1\r\nx\r\n")
        self.assertEqual(Answer(transport.value()).code, 413)
        self.assertEqual(self.server.values, {})

    def test_a_chunked_body_within_the_limit_is_stored(self) -> None:
        """Exactly as long as allowed."""
        body = b"2710\r\n" + b"x" * 10_000 + b"\r\n0\r\n\r\n"
        answer = Answer(self.raw(b"PUT /dht/k HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + body))
        self.assertEqual((answer.code, self.server.values), (200, {b"k": b"x" * 10_000}))

    def test_a_client_that_drips_is_cut_off(self) -> None:
        """Bytes do not buy time."""
        channel, transport = self.connect()
        for _ in range(int(web_site.REQUEST_TIMEOUT) + 1):
            if transport.connected:
                channel.dataReceived(b"G")
            self.clock.advance(1)
        self.assertFalse(transport.connected)

    def test_connections_are_counted(self) -> None:
        """Beyond the bound a client is told to come back, or closed if too many are being told, until one ends."""
        self.patch(web_site, "MAX_CONNECTIONS", 2)
        _, first = self.connect()
        self.connect()
        _, busy = self.connect()
        answer = Answer(busy.value())
        self.assertEqual((answer.code, answer.headers["retry-after"], list(answer.json)), (503, "1", ["error"]))
        self.assertFalse(busy.connected)
        self.patch(web_site, "MAX_BUSY", 0)
        self.assertIsNone(self.site.buildProtocol(None))
        first.loseConnection()
        channel, _ = self.connect()
        self.assertIn(channel, self.site.channels)

    def test_a_content_length_beyond_all_numbers_is_a_bad_request(self) -> None:
        """Python refuses to read numbers of thousands of digits."""
        head = b"PUT /dht/k HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n"
        self.assertEqual(Answer(self.raw(head)).code, 400)

    def test_a_header_s_name_has_a_bound(self) -> None:
        """Found by fuzzing: Twisted remembers names, and ten thousand of them took 150 MB of a peer for good."""
        known = http_headers._nameEncoder._canonicalHeaderCache
        for length, code in ((web_site.MAX_HEADER_NAME, 200), (web_site.MAX_HEADER_NAME + 1, 400)):
            name = b"x" * length
            self.assertEqual(self.ask(b"GET", b"/status", b"", name + b": y").code, code)
            self.assertEqual(name in known, code == 200)

    def test_a_bad_request_ends_the_connection_and_nothing_else(self) -> None:
        """Neither the rest of its head nor its body is looked at; Twisted's own channel raises here."""
        for head in (
            b"GET /\xff HTTP/1.1",
            b"GARBAGE",
            b"GET / HTTP/1.1\r\nbad header",
            b"GET / HTTP/1.1\r\na b: c",
        ):
            answer = self.raw(head + b"\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
            self.assertEqual(answer.count(b"HTTP/1.1 "), 1)
            parsed = Answer(answer)
            self.assertEqual(
                (parsed.code, list(parsed.json), parsed.headers["connection"]), (400, ["error"], "close")
            )

    def test_a_head_has_bounds_and_who_exceeds_them_is_told(self) -> None:
        """Twisted closes without a word where a line is too long, and calls too many headers a bad request."""
        get = b"GET /healthz HTTP/1.1\r\n"
        for head, code in (
            (b"GET /" + b"x" * 16_000 + b" HTTP/1.1", 404),
            (b"GET /" + b"x" * 20_000 + b" HTTP/1.1", 414),
            (b"GET /" + b"x" * 20_000, 414),
            (get + b"a: " + b"x" * 16_000, 200),
            (get + b"a: " + b"x" * 20_000, 431),
            (get + b"\r\n".join([b"a: " + b"x" * 1000] * 17), 431),
            (get + b"\r\n".join([b"a: b"] * 500), 200),
            (get + b"\r\n".join([b"a: b"] * 501), 431),
        ):
            for step in (1 << 20, 1000):
                channel, transport = self.connect()
                data = head + b"\r\n\r\n"
                for start in range(0, len(data), step):
                    if transport.connected:
                        channel.dataReceived(data[start : start + step])
                self.assertEqual(transport.value().count(b"HTTP/1.1 "), 1)
                answer = Answer(transport.value())
                self.assertEqual((answer.code, transport.connected), (code, code in {200, 404}), head[:40])
                if code != 200:
                    self.assertEqual(list(answer.json), ["error"])

    def test_asking_for_no_path_at_all_shows_no_software(self) -> None:
        """`OPTIONS *` is Twisted's own; any other method gets an error as everywhere."""
        for method, code in ((b"OPTIONS", 200), (b"GET", 405)):
            answer = self.ask(method, b"*")
            self.assertEqual((answer.code, answer.headers.get("server")), (code, None))
        self.assertEqual((answer.headers["allow"], list(answer.json)), ("OPTIONS", ["error"]))

    @settings(max_examples=150, deadline=None)
    @given(
        method=st.sampled_from([b"GET", b"PUT", b"POST", b"DELETE", b"OPTIONS", b"BREW"]),
        path=st.binary(max_size=30).map(lambda path: b"/" + bytes(c for c in path if c > 32)),
        host=st.binary(max_size=10).map(lambda host: bytes(c for c in host if c > 32)),
    )
    def test_no_path_or_host_makes_the_peer_fail(self, method: bytes, path: bytes, host: bytes) -> None:
        """Whatever is asked for, the answer is a client's error or a page, and never a 500."""
        answer = self.raw(method + b" " + path + b" HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
        self.assertIn(Answer(answer).code, {200, 400, 404, 405})
        self.assertEqual(self.flushLoggedErrors(), [])


class Pipelines(WebCase):
    """Many requests over one connection before the first is answered."""

    def test_answers_that_nobody_takes_stop_the_requests(self) -> None:
        """An audit's finding: one client that never read made a peer grow by a hundred MiB a second."""
        answer = len(self.raw(b"GET /openapi.yaml HTTP/1.1\r\n\r\n"))
        channel, slow = self.connect(Slow())
        requests = b"GET /openapi.yaml HTTP/1.1\r\n\r\n" * 2000
        sent = 0
        while sent < len(requests) * 100 and slow.producerState == "producing":
            channel.dataReceived(requests)
            sent += len(requests)
        self.assertEqual(sent, len(requests))
        self.assertLessEqual(slow.unread, web_site.MAX_UNSENT + answer)
        for _ in range(10):
            before = slow.taken
            slow.take()
            self.assertTrue(0 < slow.unread <= web_site.MAX_UNSENT + answer)
            self.assertGreater(slow.taken, before)
            self.assertEqual(slow.producerState, "paused")

    def test_a_client_that_takes_no_answers_is_closed(self) -> None:
        """When the time for its next request is over; what it has not taken soon after is thrown away."""
        channel, slow = self.connect(Slow())
        channel.dataReceived(b"GET /openapi.yaml HTTP/1.1\r\n\r\n" * 2000)
        self.clock.advance(web_site.REQUEST_TIMEOUT + 1)
        self.assertTrue(slow.disconnecting)
        self.clock.advance(channel.abortTimeout)
        self.assertFalse(slow.connected)
        self.assertEqual(self.site.channels, set())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_client_that_takes_no_last_answer_is_closed(self) -> None:
        """Whoever asked for the end of the connection did not get it, while the answer had not left."""
        channel, slow = self.connect(Slow())
        channel.dataReceived(b"GET /openapi.yaml HTTP/1.1\r\nConnection: close\r\n\r\n")
        self.assertTrue(slow.disconnecting)
        self.clock.advance(web_site.REQUEST_TIMEOUT)
        self.assertTrue(slow.connected)
        self.clock.advance(channel.abortTimeout)
        self.assertFalse(slow.connected)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_every_request_is_answered_in_order_as_the_client_takes_the_answers(self) -> None:
        """However the requests are cut into pieces, bodies included; reading goes on when the last has left."""
        requests, expected = b"", []
        for number in range(100):
            value = b"%03d" % number * 1000
            requests += b"PUT /dht/%d HTTP/1.1\r\nContent-Length: 3000\r\n\r\n%s" % (number, value)
            requests += b"GET /dht/%d HTTP/1.1\r\n\r\n" % number
            expected.append(value)
        for step in (len(requests), 65536, 1001):
            channel, slow = self.connect(Slow())
            pieces = [requests[start : start + step] for start in range(0, len(requests), step)]
            while pieces:
                while pieces and slow.producerState == "producing":
                    channel.dataReceived(pieces.pop(0))
                slow.take()
            while slow.unread:
                slow.take()
            self.assertEqual(re.findall(rb"(?<=\r\n\r\n)(?:\d{3}){1000}", slow.value()), expected)
            self.assertEqual(slow.value().count(b"HTTP/1.1 200"), 200)
            self.assertEqual(slow.producerState, "producing")

    def test_what_is_sent_during_a_lookup_waits_and_has_a_bound(self) -> None:
        """Its request comes first; the client cannot send without end meanwhile."""
        waiting: Deferred[Any] = Deferred()
        self.server.waiting = waiting
        channel, slow = self.connect(Slow())
        channel.dataReceived(b"GET /dht/k HTTP/1.1\r\n\r\n")
        self.server.waiting = None
        sent = 0
        while slow.producerState == "producing":
            channel.dataReceived(b"GET /healthz HTTP/1.1\r\n\r\n" * 10)
            sent += 10
        self.assertLess(sent, 1000)
        self.assertEqual(slow.value(), b"")
        waiting.callback(Fetched(b"first", 5, 2))
        while slow.unread:
            slow.take()
        self.assertIn(b"first", slow.value()[:500])
        self.assertEqual(slow.value().count(b"\r\n\r\nok\n"), sent)
        self.assertEqual(slow.producerState, "producing")


class Views(WebCase):
    """What a peer tells of itself."""

    def test_status_has_what_is_documented(self) -> None:
        """Field by field as in the description of the API."""
        self.server.stats.rpcs["ping", "ok"] = 3
        answer = self.ask(b"GET", b"/status").json
        spec = yaml.safe_load(self.ask(b"GET", b"/openapi.yaml").body)
        self.assertEqual(set(answer), set(spec["components"]["schemas"]["Status"]["required"]))
        self.assertEqual(answer["rpcs"], {"ping": {"ok": 3}})
        self.assertEqual((answer["state"], answer["joined"], answer["http_port"]), ("joined", True, 8080))

    def test_every_documented_path_exists(self) -> None:
        """And none answers with a 404 that is its own."""
        spec = yaml.safe_load(self.ask(b"GET", b"/openapi.yaml").body)
        for path, operations in spec["paths"].items():
            for method in set(operations) - {"parameters"}:
                code = self.ask(method.upper().encode(), path.replace("{key}", "k").encode(), b"", BEARER).code
                self.assertNotIn(code, {405, 500}, path)

    def statuses(self, method: str, path: str, *, body: bool) -> set[int]:
        """Ask for it in every way that the API tells apart; returns what came back, errors in JSON throughout."""
        plain = self.peer.settings
        codes = set()
        for key, query, sent, headers, changes in (
            ("k", "", b"{}", (BEARER,), {}),
            ("none", "", b"", (), {}),
            ("k", "?limit=x&trace=x", b"[", (BEARER,), {}),
            ("", "", b"{}", (BEARER,), {"state": "joining"}),
            ("x" * 1025, "", b"", (BEARER,), {"settings": replace(plain, token=None)}),
            ("k", "", b"x" * (LIMIT + 1) if body else b"", (BEARER,), {"state": "stopping"}),
            ("k", "", b"{}", (BEARER,), {"failure": NoPeersReachable("nobody")}),
            ("k", "", b"{}", (BEARER,), {"failure": QuotaExceeded("full")} if method in {"put", "post"} else {}),
            ("k", "", b"{}", (BEARER,), {"failure": Superseded("newer")} if method in {"put", "post"} else {}),
        ):
            self.peer.state, self.peer.settings, self.server.failure = "joined", plain, None
            self.server.values[b"k"] = b"v"
            for name, value in changes.items():
                setattr(self.server if name == "failure" else self.peer, name, value)
            self.serve()
            answer = self.ask(method.upper().encode(), (path.format(key=key) + query).encode(), sent, *headers)
            codes.add(answer.code)
            if answer.code >= 400 and method != "head":
                self.assertEqual(
                    (answer.headers["content-type"], list(answer.json)), ("application/json", ["error"])
                )
        return codes

    def test_every_documented_status_is_produced_and_no_other(self) -> None:
        """Operation by operation; what any request may meet is said once, at the head of the description."""
        spec = yaml.safe_load(self.ask(b"GET", b"/openapi.yaml").body)
        for path, operations in spec["paths"].items():
            for method, operation in operations.items():
                if method != "parameters":
                    documented = {int(code) for code in operation["responses"]}
                    produced = self.statuses(method, path, body="requestBody" in operation)
                    self.assertEqual(produced, documented, (method, path))
        for code in (400, 405, 413, 414, 431, 500, 503):
            self.assertIn(str(code), spec["info"]["description"])

    def test_neighbours_are_listed(self) -> None:
        """As documented."""
        self.assertEqual(
            self.ask(b"GET", b"/neighbours").json,
            [{"id": "01" * 20, "address": "127.0.60.2", "port": 8469, "distance": "0e" * 20, "last_seen": 1.235}],
        )

    def test_storage_is_paged_in_key_order(self) -> None:
        """Following `next` gives every record once."""
        for number in range(5):
            self.server.storage.put(Record(bytes([number]) * 20, b"v", 1, 9e9, 0.0))
        seen: list[str] = []
        after = b""
        while True:
            page = self.ask(b"GET", b"/storage?limit=2" + after).json
            self.assertEqual((page["total"], page["bytes"]), (5, self.server.storage.size))
            seen += [row["key"] for row in page["keys"]]
            if page["next"] is None:
                break
            after = b"&after=" + page["next"].encode()
        self.assertEqual(seen, [bytes([number]).hex() * 20 for number in range(5)])

    def test_a_long_page_leaves_the_loop_time_for_others(self) -> None:
        """It takes several turns, and is complete."""
        for number in range(1000):
            self.server.storage.put(Record(number.to_bytes(20, "big"), b"v", 1, 9e9, 0.0))
        channel, transport = self.connect()
        channel.dataReceived(b"GET /storage?limit=900 HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertEqual(transport.value(), b"")
        self.clock.pump([0, 0, 0, 0])
        page = Answer(transport.value()).json
        self.assertEqual([int(row["key"], 16) for row in page["keys"]], list(range(900)))
        self.assertEqual(int(page["next"], 16), 899)

    def test_bad_paging_is_a_bad_request(self) -> None:
        """Each names the argument."""
        for query in (b"limit=0", b"limit=10001", b"limit=-1", b"limit=x", b"limit=", b"limit=1&limit=2",
                      b"after=12", b"after=" + b"g" * 40, b"after=%ff", b"limit=%d9%a3"):  # fmt: skip
            answer = self.ask(b"GET", b"/storage?" + query)
            self.assertEqual(answer.code, 400, query)
            self.assertIn(query[:5].decode(), answer.json["error"])

    def test_healthz_follows_the_state(self) -> None:
        """A peer that is alone is healthy; one that joins or stops is not ready."""
        for state, code in (("joined", 200), ("alone", 200), ("joining", 503), ("stopping", 503)):
            self.peer.state = state
            self.assertEqual(self.ask(b"GET", b"/healthz").code, code)

    def test_a_wrong_method_is_told_the_right_ones(self) -> None:
        """405 with Allow."""
        answer = self.ask(b"DELETE", b"/dht/k")
        self.assertEqual((answer.code, answer.headers["allow"]), (405, "GET, HEAD, POST, PUT"))

    def test_unknown_paths_are_404_and_never_redirects(self) -> None:
        """A redirect would carry the client's Host header."""
        for path in (b"/nope", b"/dht", b"//evil.example/..", b"/%ff", b"/status/x", b"/st%61tus"):
            self.assertEqual(self.ask(b"GET", path).code, 404, path)


class ControlCase(WebCase):
    """Commands behind the token."""

    def test_without_the_token_nothing_happens(self) -> None:
        """401 for none, a wrong one, another scheme, and two."""
        for headers in ((), (b"Authorization: Bearer wrong",), (b"Authorization: Basic a-long-token",),
                        (BEARER, BEARER), (b"Authorization: \xff",)):  # fmt: skip
            answer = self.ask(b"POST", b"/control/shutdown", b"", *headers)
            self.assertEqual((answer.code, answer.headers["www-authenticate"]), (401, "Bearer"))
            self.assertEqual(self.ask(b"POST", b"/control/faults", b"{}", *headers).code, 401)
        self.assertEqual(self.peer.stops, [])

    def test_without_a_configured_token_there_is_no_control(self) -> None:
        """404, whatever token is shown."""
        self.peer.settings = replace(self.peer.settings, token=None)
        self.serve()
        for method, path in (
            (b"POST", b"/control/shutdown"),
            (b"POST", b"/control/faults"),
            (b"DELETE", b"/control/faults"),
        ):
            self.assertEqual(self.ask(method, path, b"", BEARER).code, 404)

    def test_shutdown_stops_the_peer(self) -> None:
        """And says so."""
        answer = self.ask(b"POST", b"/control/shutdown", b"", BEARER)
        self.assertEqual((answer.code, answer.json, self.peer.stops), (202, {"state": "stopping"}, [True]))

    def test_faults_are_set_and_cleared(self) -> None:
        """The answer is what is in force."""
        body = json.dumps({"loss": 0.5, "blocked": ["127.0.60.2:8469"]}).encode()
        answer = self.ask(b"POST", b"/control/faults", body, BEARER)
        self.assertEqual(answer.json, {"loss": 0.5, "delay": 0.0, "jitter": 0.0, "blocked": ["127.0.60.2:8469"]})
        self.assertTrue(self.server.shim.active)
        self.assertEqual(self.ask(b"DELETE", b"/control/faults", b"", BEARER).code, 200)
        self.assertFalse(self.server.shim.active)

    def test_bad_faults_are_refused_and_change_nothing(self) -> None:
        """400, with what is allowed."""
        for body in (b"", b"[]", b"{", b"\xff", b"[" * 9000, b'{"loss": 2}', b'{"loss": NaN}', b'{"lag": 1}',
                     b'{"delay": 1' + b"0" * 400 + b"}"):  # fmt: skip
            self.assertEqual(self.ask(b"POST", b"/control/faults", body, BEARER).code, 400, body)
        self.assertFalse(self.server.shim.active)
