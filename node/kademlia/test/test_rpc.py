"""Calls over UDP, and what differs from rpcudp 5.0.1: each difference is shown on both classes."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import umsgpack
from rpcudp.protocol import RPCProtocol as StockProtocol
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kademlia.codec import REQUEST, RESPONSE, MalformedDatagram, decode, encode
from kademlia.deadlines import GRAIN
from kademlia.rpc import ATTEMPTS, RPCProtocol
from kademlia.test.virtual import HOUR, Network
from kademlia.timing import INITIAL, MINIMUM

PEER = ("10.0.0.2", 8468)
STRANGER = ("10.0.0.66", 8468)


class Wire:
    """A transport that keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, Any]] = []

    def write(self, datagram: bytes, address: Any) -> None:
        """Send, as Twisted's transport does."""
        self.sent.append((datagram, address))

    sendto = write  # as asyncio's does


class Echo(RPCProtocol):
    """Serves two methods."""

    def rpc_echo(self, sender: Any, value: Any) -> Any:
        """Answer with the argument."""
        return value

    def rpc_fail(self, sender: Any) -> None:
        """Fail as a handler with a bug does."""
        raise RuntimeError("a bug")

    def rpc_inner(self, sender: Any) -> None:
        """Fail with a TypeError of its own making."""
        len(3)  # type: ignore[arg-type]


class StockEcho(StockProtocol):  # type: ignore[misc]  # rpcudp ships no types
    """The same on the stock class."""

    def rpc_echo(self, sender: Any, value: Any) -> Any:
        """Answer with the argument."""
        return value

    def rpc_fail(self, sender: Any) -> None:
        """Fail as a handler with a bug does."""
        raise RuntimeError("a bug")


class Ours(SynchronousTestCase):
    """One protocol instance on a clock and a transport of the test's own."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.wire = Wire()
        self.protocol = Echo(self.clock, random.Random(1))
        self.protocol.transport = self.wire

    def answer(self, value: object, address: Any = PEER, extension: Any = None, index: int = -1) -> None:
        """Let an answer to a request that was sent come in from an address."""
        rpc_id = decode(self.wire.sent[index][0]).rpc_id
        self.protocol.datagramReceived(encode(RESPONSE, rpc_id, value, extension), address)

    def measure(self, seconds: float, address: Any = PEER, times: int = 1) -> None:
        """Let calls be answered after so many seconds."""
        for _ in range(times):
            call = self.protocol.call(address, "echo", "hi")
            self.clock.advance(seconds)
            self.answer("hi", address)
            self.successResultOf(call)

    def assert_nothing_waits(self) -> None:
        """Check that no call and, once every deadline has passed, no timer is left."""
        assert not self.protocol._calls
        self.clock.pump([2 * INITIAL, GRAIN])
        assert not self.clock.getDelayedCalls()

    def ask(self, body: object, extension: Any = None) -> None:
        """Let a request come in."""
        self.protocol.datagramReceived(encode(REQUEST, bytes(20), body, extension), PEER)


class Asking(Ours):
    """Our side of a call."""

    def test_an_answer_reaches_the_caller(self) -> None:
        """With its value and its extension."""
        call = self.protocol.call(PEER, "echo", "hi")
        self.answer("hi", extension={"v": 1})
        assert self.successResultOf(call) == (True, "hi", {"v": 1})

    def test_a_request_is_sent_again_with_growing_waits_and_then_fails(self) -> None:
        """Under the same RPC ID, so that a late answer to the first still counts; then all is released."""
        call = self.protocol.call(PEER, "echo", "hi")
        for attempt in range(ATTEMPTS):
            assert len(self.wire.sent) == attempt + 1
            self.assertNoResult(call)
            self.clock.advance(INITIAL * 2**attempt + GRAIN)
        assert not self.successResultOf(call).happened
        assert len({datagram for datagram, _ in self.wire.sent}) == 1
        self.assert_nothing_waits()

    def test_a_measured_peer_is_waited_for_by_its_own_round_trip(self) -> None:
        """The stock class waits 5 s for everyone."""
        for _ in range(20):
            call = self.protocol.call(PEER, "echo", "hi")
            self.clock.advance(0.001)
            self.answer("hi")
            self.successResultOf(call)
        self.protocol.call(PEER, "echo", "hi")
        before = len(self.wire.sent)
        self.clock.advance(MINIMUM + GRAIN)
        assert len(self.wire.sent) == before + 1

    def test_the_caller_is_told_once_that_an_answer_is_overdue(self) -> None:
        """So that a lookup can ask somebody else meanwhile."""
        told: list[int] = []
        call = self.protocol.call(PEER, "echo", "hi", on_slow=lambda: told.append(1))
        self.clock.pump([INITIAL + GRAIN, 2 * INITIAL])
        assert told == [1]
        self.answer("hi")
        assert self.successResultOf(call).happened

    def test_a_retransmitted_request_measures_nothing(self) -> None:
        """Karn's algorithm: nobody knows which of the two was answered.  Of a peer measured before, too."""
        self.protocol.call(PEER, "echo", "hi")
        self.clock.advance(INITIAL + GRAIN)
        self.answer("hi")
        assert self.protocol.round_trips.get(PEER) is None
        self.measure(0.001)
        known = self.protocol.round_trips.get(PEER)
        assert known is not None
        before = known.smoothed, known.variation
        self.protocol.call(PEER, "echo", "hi")
        self.clock.advance(0.2)
        assert self.protocol.stats.retransmissions == 2
        self.answer("hi")
        assert (known.smoothed, known.variation) == before

    def test_the_own_estimate_of_a_peer_counts_and_not_that_of_everybody(self) -> None:
        """A slow one among fast ones is not asked twice each time, nor a fast one among slow ones missed late."""
        slow = ("10.0.0.3", 8468)
        for _ in range(20):
            self.measure(0.4, slow)
            self.measure(0.001)
        assert self.protocol.round_trips.timeout(PEER) == MINIMUM
        assert 0.4 < self.protocol.round_trips.timeout(slow) < 0.6
        for address, wait in ((PEER, MINIMUM), (slow, 0.4)):
            before = self.protocol.stats.retransmissions
            self.protocol.call(address, "echo", "hi")
            self.clock.advance(wait - 0.001)
            assert self.protocol.stats.retransmissions == before
            self.clock.advance(0.2)
            assert self.protocol.stats.retransmissions == before + 1
            self.answer("hi", address)

    def test_each_wait_is_twice_the_one_before(self) -> None:
        """Which spares a peer, or a network, that is busy."""
        self.protocol.call(PEER, "echo", "hi")
        sent: list[float] = []
        for _ in range(400):
            if len(self.wire.sent) > len(sent):
                sent.append(self.clock.seconds())
            self.clock.advance(0.01)
        first, second, third = sent
        assert abs(second - first - INITIAL) < 3 * GRAIN
        assert abs(third - second - 2 * INITIAL) < 3 * GRAIN

    def test_a_late_answer_makes_its_peer_be_waited_for_longer_until_a_certain_one(self) -> None:
        """Round trips grew: without a longer wait no request would be answered before it is sent again."""
        self.measure(0.001, times=20)
        call = self.protocol.call(PEER, "echo", "hi")
        self.clock.pump([0.1, 0.1])
        self.answer("hi")
        self.successResultOf(call)
        assert 0.2 < self.protocol.round_trips.timeout(PEER) <= 0.3 + GRAIN
        self.measure(0.001)
        assert self.protocol.round_trips.timeout(PEER) == MINIMUM

    def test_an_answer_to_a_request_given_up_tells_how_slow_its_peer_is(self) -> None:
        """And only one from the address that was asked; no memory of it is kept for long."""
        self.measure(0.001, times=20)
        for address in (STRANGER, PEER):
            call = self.protocol.call(PEER, "echo", "hi")
            self.clock.pump([0.05] * 20)
            assert not self.successResultOf(call).happened
            self.answer("hi", address)
            assert (self.protocol.round_trips.timeout(PEER) > 1.0) is (address == PEER)
            assert (self.protocol.round_trips.timeout(STRANGER) > 1.0) is (address == PEER), "as of anybody"
        assert self.protocol.stats.dropped["unasked"] == 2
        slow = self.protocol.call(PEER, "echo", "hi")
        self.clock.advance(1.0)
        self.answer("hi")
        assert self.successResultOf(slow).happened
        self.clock.pump([0.5] * 10)
        assert not self.protocol._given_up
        assert not self.clock.getDelayedCalls()

    def test_a_peer_that_only_ever_answered_late_is_waited_for(self) -> None:
        """It was never measured, and everybody else is fast."""
        slow = ("10.0.0.3", 8468)
        self.measure(0.001, times=20)
        self.protocol.call(slow, "echo", "hi")
        self.clock.pump([0.05] * 20)
        self.answer("hi", slow)
        assert self.protocol.round_trips.timeout(("10.0.0.4", 8468)) > 1.0, "everybody may have become slow"
        self.measure(0.001)
        assert self.protocol.round_trips.timeout(("10.0.0.4", 8468)) == MINIMUM
        assert self.protocol.round_trips.timeout(slow) > 1.0
        self.measure(0.9, slow)
        assert self.protocol.round_trips.get(slow) is not None
        assert not self.protocol.round_trips._late

    def test_silence_makes_nobody_be_waited_for_longer(self) -> None:
        """A dead peer costs the same each time, and others nothing."""
        self.measure(0.001, times=20)
        for _ in range(3):
            call = self.protocol.call(PEER, "echo", "hi")
            self.clock.pump([0.05] * 15)
            assert not self.successResultOf(call).happened
        assert self.protocol.round_trips.timeout(PEER) == MINIMUM

    def test_a_peer_of_the_other_address_family_is_not_waited_for(self) -> None:
        """Anyone may name one; nothing can be sent there, and that must not raise."""
        assert not self.successResultOf(self.protocol.call(("::1", 8468), "echo", "hi")).happened
        assert self.wire.sent == []

    def test_a_datagram_that_cannot_be_sent_is_a_lost_one(self) -> None:
        """The call goes on and is sent again."""

        def refuse(datagram: bytes, address: Any) -> None:
            raise OSError("no route")

        self.wire.write = refuse  # type: ignore[method-assign]
        call = self.protocol.call(PEER, "echo", "hi")
        self.assertNoResult(call)
        assert self.protocol.stats.dropped["unsendable"] == 1

    def test_without_transport_a_call_fails_at_once(self) -> None:
        """And leaves no timer behind."""
        self.protocol.transport = None
        assert not self.successResultOf(self.protocol.call(PEER, "echo", "hi")).happened
        self.assert_nothing_waits()

    def test_when_the_protocol_stops_its_callers_are_told(self) -> None:
        """Nobody waits for ever."""
        call = self.protocol.call(PEER, "echo", "hi")
        self.protocol.stopProtocol()
        assert not self.successResultOf(call).happened
        self.assert_nothing_waits()


class Slower(SynchronousTestCase):
    """A network whose round trips grow for good, beyond what measured peers are waited for."""

    def test_measured_peers_do_not_lose_each_other(self) -> None:
        """They were waited for 0.7 s in all, however often they answered after a second or two."""
        for latency in (0.3, 0.5, 1.0):
            network = Network(0.01)
            servers = network.grow(8, ksize=4)
            network.run(10)
            network.latency = latency
            network.run(2 * HOUR)
            for number, server in enumerate(servers):
                published = network.result(server.publish(f"key {number}", b"v"))
                assert published.replicas >= 3, (latency, number, published)
            assert all(server.contact_count >= 4 for server in servers)


class Serving(Ours):
    """The other side of a call."""

    def test_a_request_is_answered_under_its_rpc_id(self) -> None:
        """Section 2.3: the RPC ID is echoed."""
        self.ask(["echo", [5]])
        ((datagram, address),) = self.wire.sent
        assert (decode(datagram)[:3], address) == ((RESPONSE, bytes(20), 5), PEER)

    def test_bad_requests_are_dropped_and_counted(self) -> None:
        """No shape of arguments raises, and nothing is sent to whoever it is."""
        bad: list[object] = [
            None,
            5,
            [],
            ["echo"],
            ["echo", 5],
            [b"echo", []],
            ["echo", []],
            ["echo", [1, 2]],
            ["nothing", []],
            {},
        ]
        for body in bad:
            self.ask(body)
        assert self.wire.sent == []
        assert self.protocol.stats.dropped == {"malformed": len(bad) - 1, "unknown method": 1}

    def test_private_and_inherited_names_cannot_be_called(self) -> None:
        """Only `rpc_` methods of the class are on offer."""
        for name in ("__init__", "call", "_serve", "rpc_echo", "stopProtocol", "__class__"):
            self.ask([name, []])
        assert self.wire.sent == []

    def test_a_type_error_inside_a_handler_is_a_bug_and_not_a_bad_request(self) -> None:
        """It is logged and answered as a failure."""
        self.ask(["inner", []])
        assert "error" in decode(self.wire.sent[0][0]).extension
        assert len(self.flushLoggedErrors(TypeError)) == 1


class Difference(Ours):
    """Each fault of rpcudp 5.0.1 that ours does not have, shown on both."""

    def stock(self, scenario: Any) -> Any:
        """Run a coroutine function with a stock protocol on a fresh asyncio loop."""

        async def run() -> Any:
            protocol = StockEcho(wait_timeout=0.05)
            protocol.transport = Wire()
            return await scenario(protocol)

        return asyncio.run(run())

    def test_a_forged_answer_from_another_address_is_refused(self) -> None:
        """Whoever saw or guessed the RPC ID could answer a stock peer."""

        async def forged(protocol: StockEcho) -> Any:
            call = protocol.echo(PEER, "hi")
            rpc_id = protocol.transport.sent[0][0][1:21]
            protocol._accept_response(rpc_id, "forged", STRANGER)
            return await call

        assert self.stock(forged) == (True, "forged")
        call = self.protocol.call(PEER, "echo", "hi")
        self.answer("forged", STRANGER)
        self.assertNoResult(call)
        assert self.protocol.stats.dropped["forged"] == 1
        self.answer("true", PEER)
        assert self.successResultOf(call).value == "true"

    def test_a_cancelled_call_is_forgotten(self) -> None:
        """A stock call that is cancelled stays in the table and raises in the loop when it times out."""

        async def cancelled(protocol: StockEcho) -> Any:
            trouble: list[Any] = []
            asyncio.get_running_loop().set_exception_handler(
                lambda _, context: trouble.append(context["exception"])
            )
            protocol.echo(PEER, "hi").cancel()
            leaked = len(protocol._outstanding)
            await asyncio.sleep(0.1)
            return leaked, [type(error) for error in trouble]

        assert self.stock(cancelled) == (1, [asyncio.InvalidStateError])
        call = self.protocol.call(PEER, "echo", "hi")
        call.cancel()
        self.failureResultOf(call, CancelledError)
        self.assert_nothing_waits()
        self.answer("late")
        assert self.protocol.stats.dropped["unasked"] == 1

    def test_a_failing_handler_is_reported_to_the_caller_at_once(self) -> None:
        """The caller of a stock peer waits for its time-out, and the exception is nobody's."""

        async def failing(protocol: StockEcho) -> Any:
            try:
                await protocol._accept_request(bytes(20), ["fail", []], PEER)
            except RuntimeError:
                return protocol.transport.sent
            return None

        assert self.stock(failing) == []
        self.ask(["fail", []])
        assert len(self.flushLoggedErrors(RuntimeError)) == 1
        reply = decode(self.wire.sent[0][0])
        call = self.protocol.call(PEER, "fail")
        self.answer(reply.body, extension=reply.extension)
        assert not self.successResultOf(call).happened
        self.assert_nothing_waits()

    def test_a_malformed_datagram_raises_nowhere(self) -> None:
        """In the stock class it raises inside a detached task; a deeply nested one exhausts the stack."""
        nested = b"\x00" + bytes(20) + b"\x91" * 5000

        async def malformed(protocol: StockEcho) -> Any:
            try:
                await protocol._solve_datagram(nested, PEER)
            except (RecursionError, umsgpack.UnpackException) as error:
                return type(error)
            return None

        assert self.stock(malformed) is not None
        self.protocol.datagramReceived(nested, PEER)
        self.protocol.datagramReceived(b"\x00" + bytes(20) + b"\xc1", PEER)
        assert self.protocol.stats.dropped["malformed"] == 2

    def test_a_misspelt_method_is_an_error_here_and_a_remote_call_there(self) -> None:
        """`protocol.transprot` sends a datagram in the stock class once it is called."""

        async def misspelt(protocol: StockEcho) -> Any:
            protocol.ehco(PEER).cancel()
            protocol._outstanding.clear()
            return len(protocol.transport.sent)

        assert self.stock(misspelt) == 1
        self.assertRaises(AttributeError, getattr, self.protocol, "ehco")

    def test_large_datagrams_are_read_whole_when_the_program_owns_the_transport(self) -> None:
        """Twisted's `listenUDP` cuts reads at 8192 bytes unless told otherwise; a cut value would not decode."""

        class Bound(Wire):
            maxPacketSize = 8192

        bound = Bound()
        self.protocol.transport = bound
        self.protocol.startProtocol()
        assert bound.maxPacketSize > 65_000

    def test_malformed_arguments_raise_our_own_error_which_rpcudp_users_know_too(self) -> None:
        """It is also an `rpcudp.exceptions.MalformedMessage`."""
        assert issubclass(MalformedDatagram, __import__("rpcudp.exceptions").exceptions.MalformedMessage)
