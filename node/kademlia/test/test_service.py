"""The peer as a service: starting, joining, answering over real sockets, stopping."""

from __future__ import annotations

import random
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.protocol import ClientCreator, Protocol
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from kademlia.config import HTTPSettings, Settings, StorageSettings
from kademlia.errors import ListenError, StorageError
from kademlia.intervals import PROFILES
from kademlia.service import LAST_RETRY, REUNITE, WATCH, Joiner, PeerService, make_service
from kademlia.web import site as web_site
from kademlia.web.site import PeerChannel

HOST = "127.0.60.21"


class FakeServer:
    """Counts how often it is asked to join; answers as told."""

    def __init__(self) -> None:
        self.contact_count = 0
        self.asked = 0
        self.greeted: list[object] = []
        self.answer: Any = []

    def bootstrap(self, peers: object) -> Deferred[list[Any]]:
        """Answer."""
        self.asked += 1
        if isinstance(self.answer, Exception):
            return fail(self.answer)
        return self.answer if isinstance(self.answer, Deferred) else succeed(self.answer)

    def reunite(self, peers: object) -> Deferred[None]:
        """Take note; fail as told."""
        self.greeted.append(peers)
        return fail(self.answer) if isinstance(self.answer, Exception) else succeed(None)


class Joining(SynchronousTestCase):
    """When a peer bootstraps, on a clock of the test's own."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.server: Any = FakeServer()
        self.joiner = self.join((("127.0.60.1", 1),))

    def join(self, peers: tuple[tuple[str, int], ...]) -> Joiner:
        return Joiner(self.server, peers, self.clock, random.Random(1))

    def run_for(self, seconds: float) -> int:
        """Let time pass; returns how often the network was asked."""
        before = self.server.asked
        self.clock.pump([0.25] * int(seconds * 4))
        return int(self.server.asked - before)

    def test_it_tries_again_until_somebody_answers_ever_more_rarely(self) -> None:
        """Quickly at first, since peers of a testbed start together; at the end twice a minute or so."""
        self.joiner.start()
        self.assertEqual(self.joiner.state, "joining")
        self.assertGreaterEqual(self.run_for(10), 4)
        self.run_for(600)
        late = self.run_for(600)
        self.assertTrue(600 / LAST_RETRY <= late <= 2 * 600 / LAST_RETRY + 1, late)

    def test_it_is_joined_once_there_are_contacts(self) -> None:
        """And asks no more."""
        self.server.answer, self.server.contact_count = [("127.0.60.1", 1)], 1
        self.joiner.start()
        self.assertEqual(self.joiner.state, "joined")
        self.assertEqual(self.run_for(600), 0)

    def test_a_bootstrap_peer_is_greeted_now_and_then(self) -> None:
        """Twice a minute on average, not in step with others, and whatever comes of it."""
        self.server.answer, self.server.contact_count = [("127.0.60.1", 1)], 1
        self.joiner.start()
        self.server.answer = ZeroDivisionError()
        self.run_for(600)
        self.assertTrue(600 / REUNITE / 2 <= len(self.server.greeted) <= 600 / REUNITE * 2, self.server.greeted)
        self.assertEqual(set(self.server.greeted), {(("127.0.60.1", 1),)})
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), len(self.server.greeted))

    def test_it_joins_again_when_all_contacts_are_lost(self) -> None:
        """Within one look at them."""
        self.server.answer, self.server.contact_count = [("127.0.60.1", 1)], 1
        self.joiner.start()
        self.server.contact_count, self.server.answer = 0, []
        self.assertEqual(self.joiner.state, "joining")
        self.assertGreaterEqual(self.run_for(WATCH + 0.5), 1)

    def test_it_is_still_joining_while_the_first_attempt_is_under_way(self) -> None:
        """Contacts alone do not make a peer part of the network: its self-lookup does."""
        self.server.answer, self.server.contact_count = Deferred(), 1
        self.joiner.start()
        self.assertEqual(self.joiner.state, "joining")
        self.server.answer.callback([("127.0.60.1", 1)])
        self.assertEqual(self.joiner.state, "joined")

    def test_a_peer_without_bootstrap_peers_is_alone_until_somebody_comes(self) -> None:
        """It has nobody to ask."""
        joiner = self.join(())
        joiner.start()
        self.assertEqual(joiner.state, "alone")
        self.server.contact_count = 1
        self.assertEqual(joiner.state, "joined")
        self.assertEqual(self.run_for(60), 0)

    def test_an_error_is_logged_and_does_not_end_the_attempts(self) -> None:
        """Nothing may strand a peer."""
        self.server.answer = ZeroDivisionError()
        self.joiner.start()
        self.assertGreaterEqual(self.run_for(5), 2)
        self.assertGreaterEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_stop_ends_the_attempt_and_the_timers(self) -> None:
        """Whichever of both there is, and says nothing."""
        self.joiner.start()
        self.joiner.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.server.answer = Deferred()
        joiner = self.join((("127.0.60.1", 1),))
        joiner.start()
        joiner.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.flushLoggedErrors(), [])


class Collector(Protocol):
    """Gathers what comes until the connection ends."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.done: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Any = None) -> None:
        self.done.callback(bytes(self.received))


class Peers(TestCase):
    """Peers on loopback addresses and ports of the system's choice."""

    timeout = 30

    def settings(self, **changes: Any) -> Settings:
        base = Settings(
            HOST,
            port=0,
            data_dir=Path(self.mktemp()).absolute(),
            intervals=PROFILES["demo"],
            http=HTTPSettings(HOST, 0),
            token=b"a-long-token",
        )
        return replace(base, **changes)

    def start(self, settings: Settings) -> PeerService:
        service = make_service(settings)
        service.startService()
        self.addCleanup(self.stop, service)
        return service

    async def stop_now(self, service: PeerService) -> None:
        await service.stopService()

    def stop(self, service: PeerService) -> Any:
        return service.stopService() if service.state != "stopping" else None

    async def ask(self, service: PeerService, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Make a request over a real socket."""
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        raw = await self.exchange(service, head.encode() + body)
        head_bytes, _, content = raw.partition(b"\r\n\r\n")
        return int(head_bytes.split(b" ")[1]), content

    async def exchange(self, service: PeerService, data: bytes) -> bytes:
        assert service.http_port is not None
        collector: Any = await ClientCreator(reactor, Collector).connectTCP(HOST, service.http_port)
        collector.transport.write(data)
        return bytes(await collector.done)

    async def until(self, state: str, service: PeerService) -> None:
        while service.state != state:
            await deferLater(reactor, 0.02)

    async def test_a_value_put_at_one_peer_is_got_from_another(self) -> None:
        """The whole way: HTTP, UDP, store, and back."""
        first = self.start(self.settings())
        second = self.start(self.settings(bootstrap=(first.server.address,)))
        await self.until("joined", second)
        code, answer = await self.ask(first, "PUT", "/dht/a/key", b"\0value")
        self.assertEqual(code, 200, answer)
        self.assertEqual(await self.ask(second, "GET", "/dht/a/key"), (200, b"\0value"))
        self.assertEqual((await self.ask(second, "GET", "/healthz"))[0], 200)

    async def test_a_peer_comes_back_as_who_it_was_with_what_it_held(self) -> None:
        """Node ID and records are in its folder."""
        settings = self.settings()
        peer = self.start(settings)
        other = self.start(self.settings(bootstrap=(peer.server.address,)))
        await self.until("joined", other)
        await self.ask(other, "PUT", "/dht/k", b"v")
        before = peer.server.id, peer.server.storage.count
        self.assertEqual(before[1], 1)
        await self.stop_now(peer)
        again = self.start(settings)
        self.assertEqual((again.server.id, again.server.storage.count), before)

    async def test_a_large_upload_is_refused_and_the_client_gets_to_read_it(self) -> None:
        """Although it goes on sending."""
        peer = self.start(self.settings())
        head = b"PUT /dht/k HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000\r\n\r\n"
        raw = await self.exchange(peer, head + b"x" * 1_000_000)
        self.assertIn(b" 413 ", raw.split(b"\r\n")[0])
        assert peer.site is not None
        while peer.site.channels:
            await deferLater(reactor, 0.02)

    async def test_a_head_without_end_is_refused_and_the_client_gets_to_read_it(self) -> None:
        """Although it goes on sending: a reset would overtake the answer."""
        peer = self.start(self.settings())
        raw = await self.exchange(peer, b"GET / HTTP/1.1\r\nCookie: " + b"x" * 1_000_000)
        self.assertIn(b" 431 ", raw.split(b"\r\n")[0])

    async def test_a_connection_too_many_gets_to_read_so(self) -> None:
        """A health check must be able to tell a busy peer from a dead one."""
        self.patch(web_site, "MAX_CONNECTIONS", 0)
        peer = self.start(self.settings())
        self.assertEqual((await self.ask(peer, "GET", "/healthz"))[0], 503)
        assert peer.site is not None
        while peer.site.busy:
            await deferLater(reactor, 0.02)

    async def test_a_client_that_does_not_read_costs_little_and_may_still_read_everything(self) -> None:
        """On a real socket: what waits to be sent stays below the buffer and one answer, whatever is asked for."""
        peer = self.start(self.settings())
        request, count, peak, done = b"GET /openapi.yaml HTTP/1.1\r\n\r\n", 1500, 0, 0
        answer = len(await self.exchange(peer, request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")))
        plain = PeerChannel.requestDone

        def spied(channel: Any, request: Any) -> None:
            nonlocal peak, done
            socket = channel.transport
            peak = max(peak, len(socket.dataBuffer) + socket._tempDataLen)
            done += 1
            plain(channel, request)

        self.patch(PeerChannel, "requestDone", spied)
        client: Any = await ClientCreator(reactor, Collector).connectTCP(HOST, peer.http_port)
        client.transport.pauseProducing()
        client.transport.write(request * count + b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n")
        before = -1
        while before != done:  # until the buffers of the kernel are full
            before = done
            await deferLater(reactor, 0.1)
        self.assertLess(done, count)
        client.transport.resumeProducing()
        received = await client.done
        self.assertEqual(received.count(b"HTTP/1.1 200 OK"), count + 1)
        self.assertTrue(received.endswith(b"ok\n"))
        self.assertLessEqual(peak, web_site.MAX_UNSENT + answer)

    async def test_the_largest_value_is_the_configured_one(self) -> None:
        """A body of exactly that size is stored and read elsewhere, one byte more is refused; in real time."""
        storage = StorageSettings(max_value=100_000)
        first = self.start(self.settings(storage=storage))
        second = self.start(self.settings(storage=storage, bootstrap=(first.server.address,)))
        await self.until("joined", second)
        self.assertEqual((await self.ask(first, "PUT", "/dht/k", bytes(100_000)))[0], 200)
        self.assertEqual(await self.ask(second, "GET", "/dht/k"), (200, bytes(100_000)))
        code, answer = await self.ask(first, "PUT", "/dht/k", bytes(100_001))
        self.assertEqual(code, 413)
        self.assertIn(b"100000", answer)

    async def test_the_fault_shim_stands_between_peer_and_network(self) -> None:
        """A peer that loses everything reaches nobody."""
        first = self.start(self.settings())
        second = self.start(self.settings(bootstrap=(first.server.address,)))
        await self.until("joined", second)
        assert second.server.shim is not None
        second.server.shim.configure({"loss": 1})
        self.assertEqual((await self.ask(second, "PUT", "/dht/k", b"v"))[0], 503)

    async def test_what_is_in_the_way_of_a_start_is_named_and_nothing_stays_open(self) -> None:
        """A busy TCP port, a busy UDP port, a store in use."""
        peer = self.start(self.settings())
        _, udp = peer.server.address or ("", 0)
        busy = HTTPSettings(HOST, peer.http_port or 0)
        for settings, kind, text in (
            (self.settings(http=busy), ListenError, f"TCP {HOST}:{peer.http_port}"),
            (self.settings(port=udp), ListenError, f"UDP {HOST}:{udp}"),
            (self.settings(data_dir=peer.settings.data_dir), StorageError, "another process uses it"),
        ):
            error = self.assertRaises(kind, make_service(settings).startService)
            self.assertIn(text, str(error))
        await deferLater(reactor, 0)  # sockets close in the next turn

    async def test_a_bare_peer_has_no_webserver(self) -> None:
        """As node/server.tac starts it."""
        peer = self.start(self.settings(http=None, storage=StorageSettings("memory"), data_dir=None, token=None))
        self.assertIsNone(peer.http_port)
        self.assertIsNone(peer.server.shim)
        self.assertEqual(peer.state, "alone")

    async def test_stopping_frees_the_ports(self) -> None:
        """And says stopping."""
        peer = self.start(self.settings())
        port = peer.http_port or 0
        await self.stop_now(peer)
        self.assertEqual(peer.state, "stopping")
        with socket.create_server((HOST, port)):
            pass
