"""Calls over UDP: rpcudp's protocol on Twisted's transport, without what is unsafe or slow in it.

What differs from `rpcudp.protocol.RPCProtocol`, and why:

- an answer counts only if it comes from the address that was asked (there, from anyone who learns the RPC ID);
- a request is sent again when its answer is overdue by that peer's own round-trip estimate (there, once, and 5 s);
- a failing handler is answered as an error at once and logged (there, the caller waits and nobody learns);
- a malformed datagram is counted and dropped (there, it raises in a detached task);
- only methods that exist can be called (there, any misspelt attribute becomes a remote call);
- no coroutine, task or future per datagram: Deferreds, which also run under every Twisted reactor.
"""

from __future__ import annotations

from socket import AF_INET, AF_INET6, SO_RCVBUF, SOL_SOCKET
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from rpcudp.protocol import RPCProtocol as StockProtocol
from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from kademlia.codec import (
    MAX_DATAGRAM,
    NO_EXTENSION,
    REQUEST,
    REQUEST_PREFIX,
    RESPONSE_PREFIX,
    Extension,
    MalformedDatagram,
    pack,
    read,
)
from kademlia.deadlines import Deadlines
from kademlia.ids import ID_BYTES
from kademlia.stats import Stats
from kademlia.timing import MAXIMUM, RoundTrips

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from kademlia.clock import Clock
    from kademlia.shim import FaultShim

Address = tuple[str, int]

#: times a request is sent before its peer is taken to have failed; each wait is twice the one before
ATTEMPTS = 3
#: seconds since its first sending for which a request given up is remembered: an answer tells how slow its peer is
REMEMBERED = 2 * MAXIMUM
#: bytes of datagrams that the kernel is asked to keep until they are read
RECEIVE_BUFFER = 1 << 20


class Answer(NamedTuple):
    """The outcome of a call.  `happened` is False when nobody answered or the peer answered with an error."""

    happened: bool
    value: Any = None
    extension: Extension = NO_EXTENSION


class Reply(NamedTuple):
    """What a handler returns when its answer carries an extension."""

    value: Any
    extension: Extension


NO_ANSWER = Answer(False)


class _Call:
    """A request that waits for its answer."""

    __slots__ = ("address", "attempts", "datagram", "name", "on_answer", "on_slow", "sent_at", "wait")

    def __init__(
        self,
        address: Address,
        name: str,
        datagram: bytes,
        sent_at: float,
        wait: float,
        on_answer: Callable[[Answer], object],
        on_slow: Callable[[], object] | None,
    ) -> None:
        self.address = address
        self.name = name
        self.datagram = datagram
        self.sent_at = sent_at
        self.wait = wait
        self.on_answer = on_answer
        self.on_slow = on_slow
        self.attempts = 1


class RPCProtocol(DatagramProtocol, StockProtocol):  # type: ignore[misc]  # rpcudp ships no types
    """Sends requests, waits for answers, and serves the `rpc_` methods of its subclass.

    A handler gets the sender's address and the caller's arguments; it returns the answer, or a `Reply`, or raises
    `MalformedDatagram` when the arguments are not what it takes (the request is then dropped).
    """

    noisy = False
    transport: Any
    log = Logger()

    def __init__(self, clock: Clock, rng: random.Random, stats: Stats | None = None) -> None:
        StockProtocol.__init__(self)
        self.clock = clock
        self.rng = rng
        self.stats = stats if stats is not None else Stats()
        self.round_trips = RoundTrips()
        self.shim: FaultShim | None = None
        #: extension of the request being served; handlers that understand extensions read it
        self.extension: Extension = {}
        self._calls: dict[bytes, _Call] = {}
        #: requests given up lately: who was asked, and when first
        self._given_up: dict[bytes, tuple[Address, float]] = {}
        self._deadlines = Deadlines(clock, self._overdue)
        self._fresh_ids: list[bytes] = []
        self._sendto: Callable[[bytes, Address], object] | None = None
        self._ipv6 = False
        self._handlers: dict[str, Callable[..., Any]] = {
            name.removeprefix("rpc_"): getattr(self, name) for name in dir(type(self)) if name.startswith("rpc_")
        }

    def __getattr__(self, name: str) -> NoReturn:
        """Refuse what does not exist: rpcudp would send it to a peer."""
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    # -- transport ------------------------------------------------------------------------------------------------

    def startProtocol(self) -> None:  # noqa: N802  (Twisted's name)
        """Take whole datagrams: Twisted's default cuts reads at 8 KiB, silently."""
        self.transport.maxPacketSize = MAX_DATAGRAM + 1
        self._ipv6 = getattr(self.transport, "addressFamily", AF_INET) == AF_INET6
        # Twisted's `write` parses the address up to five times for each datagram.  Ours are known to be numeric.
        port_socket = getattr(self.transport, "socket", None)
        self._sendto = None if port_socket is None else port_socket.sendto
        if port_socket is not None:  # Linux grants twice what it allows by default, if asked
            port_socket.setsockopt(SOL_SOCKET, SO_RCVBUF, RECEIVE_BUFFER)

    def stopProtocol(self) -> None:  # noqa: N802  (Twisted's name)
        """Fail what still waits, so that nobody waits for ever."""
        self.transport = self._sendto = None
        for rpc_id in list(self._calls):
            self._finish(rpc_id, NO_ANSWER, "cancelled")
        self._deadlines.clear()
        self._given_up.clear()

    def _send(self, datagram: bytes, address: Address) -> None:
        if self.shim is not None and self.shim.active:
            self.shim.outgoing(datagram, address, self._write)
        else:
            self._write(datagram, address)

    def _write(self, datagram: bytes, address: Address) -> None:
        try:
            if self._sendto is not None:
                self._sendto(datagram, address)
            elif self.transport is not None:
                self.transport.write(datagram, address)
            else:
                return
            self.stats.bytes_sent += len(datagram)
        except (OSError, OverflowError):
            self.stats.dropped["unsendable"] += 1  # a full buffer, no route: lost, and loss is provided for

    # -- asking ---------------------------------------------------------------------------------------------------

    def call(
        self,
        address: Address,
        name: str,
        *args: object,
        extension: Extension | None = None,
        on_slow: Callable[[], object] | None = None,
    ) -> Deferred[Answer]:
        """Call a method of the peer at an address; the Deferred fires with an `Answer`, or fails if cancelled.

        `on_slow` is called once, when the answer is overdue and the request is sent again.
        """
        deferred: Deferred[Answer] = Deferred(lambda _: self._cancelled(rpc_id))
        rpc_id = self.begin_call(address, name, pack([name, args], extension), deferred.callback, on_slow)
        return deferred

    def begin_call(
        self,
        address: Address,
        name: str,
        packed: bytes,
        on_answer: Callable[[Answer], object],
        on_slow: Callable[[], object] | None = None,
    ) -> bytes:
        """Do what `call` does, without its comfort: for those who ask many peers the same.

        `packed` is what `codec.pack` made of `[name, arguments]` and an extension.  Returns the RPC ID.
        `on_answer` is called once with the answer; at once where nothing can be sent.
        """
        rpc_id = self._fresh_id()
        if self.transport is None or (":" in address[0]) is not self._ipv6:
            on_answer(NO_ANSWER)  # also for a peer of the other address family, which others may well reach
            return rpc_id
        datagram = REQUEST_PREFIX + rpc_id + packed
        now = self.clock.seconds()
        wait = self.round_trips.timeout(address)
        self._calls[rpc_id] = _Call(address, name, datagram, now, wait, on_answer, on_slow)
        self._deadlines.add(now + wait, rpc_id)
        self._send(datagram, address)
        return rpc_id

    def _fresh_id(self) -> bytes:
        # Drawn many at a time: the system's randomness costs a system call.
        if not self._fresh_ids:
            drawn = self.rng.randbytes(64 * ID_BYTES)
            self._fresh_ids = [drawn[at : at + ID_BYTES] for at in range(0, len(drawn), ID_BYTES)]
        return self._fresh_ids.pop()

    def _overdue(self, rpc_id: bytes) -> None:
        call = self._calls.get(rpc_id)
        if call is None:
            if self._given_up:
                self._given_up.pop(rpc_id, None)
            return  # settled long ago
        if call.attempts == ATTEMPTS:
            until = call.sent_at + REMEMBERED
            if until > self.clock.seconds():  # else it was waited for as long as anybody is
                self._given_up[rpc_id] = call.address, call.sent_at
                self._deadlines.add(until, rpc_id)
            self._finish(rpc_id, NO_ANSWER, "timeout")
            return
        call.attempts += 1
        call.wait *= 2
        self._deadlines.add(self.clock.seconds() + call.wait, rpc_id)
        self.stats.retransmissions += 1
        self._send(call.datagram, call.address)
        if call.on_slow is not None:
            on_slow, call.on_slow = call.on_slow, None
            try:
                on_slow()
            except Exception:
                self.log.failure("what was to be done about a late answer to {name} failed", name=call.name)

    def _cancelled(self, rpc_id: bytes) -> None:
        self.stats.rpcs[self._calls.pop(rpc_id).name, "cancelled"] += 1

    def _finish(self, rpc_id: bytes, answer: Answer, outcome: str) -> None:
        call = self._calls.pop(rpc_id)
        self.stats.rpcs[call.name, outcome] += 1
        try:
            call.on_answer(answer)
        except Exception:
            self.log.failure("what was to be done with the answer to {name} failed", name=call.name)

    # -- being asked ----------------------------------------------------------------------------------------------

    def datagramReceived(self, datagram: bytes, addr: tuple[Any, ...]) -> None:  # noqa: N802  (Twisted's name)
        """Take a datagram from anywhere; nothing it contains raises."""
        address = (addr[0], addr[1])
        self.stats.bytes_received += len(datagram)
        if self.shim is not None and self.shim.active:
            self.shim.incoming(datagram, address, self._deliver)
        else:
            self._deliver(datagram, address)

    def _deliver(self, datagram: bytes, address: Address) -> None:
        try:
            kind, rpc_id, body, extension = read(datagram)
            if kind == REQUEST:
                self._serve(rpc_id, body, extension, address)
            else:
                self._answered(rpc_id, body, extension, address)
        except MalformedDatagram as error:
            self.stats.dropped["malformed"] += 1
            self.log.debug("dropped a datagram from {address}: {error}", address=address, error=error)

    def _answered(self, rpc_id: bytes, value: Any, extension: Extension, address: Address) -> None:
        call = self._calls.get(rpc_id)
        if call is None:  # came after we gave up, or a second answer to a request sent twice
            self.stats.dropped["unasked"] += 1
            asked, sent_at = self._given_up.pop(rpc_id, (None, 0.0))
            if asked == address:
                self.round_trips.late(address, self.clock.seconds() - sent_at)
            return
        if call.address != address:
            self.stats.dropped["forged"] += 1
            return
        if call.attempts == 1:
            self.round_trips.observe(address, self.clock.seconds() - call.sent_at)
        else:
            self.round_trips.late(address, self.clock.seconds() - call.sent_at)
        if "error" in extension:
            self._finish(rpc_id, Answer(False, value, extension), "error")
        else:
            self._finish(rpc_id, Answer(True, value, extension), "ok")

    def _serve(self, rpc_id: bytes, body: Any, extension: Extension, address: Address) -> None:
        if not (isinstance(body, list) and len(body) == 2 and type(body[0]) is str and isinstance(body[1], list)):
            raise MalformedDatagram("a request is [name, [arguments]]")
        name, args = body
        handler = self._handlers.get(name)
        if handler is None:
            self.stats.dropped["unknown method"] += 1
            return
        self.extension = extension
        try:
            reply = handler(address, *args)
        except MalformedDatagram:
            raise
        except Exception as error:
            if isinstance(error, TypeError) and error.__traceback__ and error.__traceback__.tb_next is None:
                # raised by the call itself, not inside the handler: the number of arguments is wrong
                raise MalformedDatagram(f"wrong arguments for {name}") from None
            self.stats.rpcs[name, "refused"] += 1
            self.log.failure("serving {name} to {address} failed", name=name, address=address)
            reply = Reply(None, {"error": "the peer failed to serve this request"})
        else:
            self.stats.rpcs[name, "served"] += 1
        packed = pack(*reply) if type(reply) is Reply else pack(reply)
        self._send(RESPONSE_PREFIX + rpc_id + packed, address)
