"""What the HTTP API does about clients that send too much, take too little, or both."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.web import http_headers

from kademlia.network import Fetched
from kademlia.test.webcase import Answer, Slow, WebCase
from kademlia.web import site as web_site


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
