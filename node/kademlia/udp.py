"""Twisted's UDP port with a shorter way from the socket to the protocol.

A lookup's answers come one by one from many peers, so nearly every datagram wakes the loop: what a wake-up costs
is then a part of every RPC.  Nothing else differs, and a protocol works on Twisted's own port just as well.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.posixbase import PosixReactorBase
from twisted.internet.udp import Port as TwistedPort
from twisted.logger import Logger

if TYPE_CHECKING:
    from twisted.internet.protocol import DatagramProtocol

#: datagrams read in one turn of the loop: some milliseconds of work
PER_TURN = 100


class Port(TwistedPort):
    """A UDP port for many small datagrams."""

    _log = Logger()

    def doRead(self) -> None:  # noqa: N802  (Twisted's name)
        """Hand the datagrams that have come to the protocol."""
        receive, size, received = self.socket.recvfrom, self.maxPacketSize, self.protocol.datagramReceived
        for _ in range(PER_TURN):
            try:
                datagram, address = receive(size)
            except BlockingIOError:
                return
            except (ConnectionError, InterruptedError):
                continue  # an ICMP error about something that was sent: a lost datagram
            try:
                received(datagram, address)
            except Exception:
                self._log.failure("a datagram could not be handled")
            if not self.connected:
                return


def listen(reactor: Any, port: int, protocol: DatagramProtocol, interface: str, max_packet: int) -> Any:
    """Do what `reactor.listenUDP` does, with the port above wherever the reactor is one that waits for sockets."""
    if not isinstance(reactor, PosixReactorBase):
        return reactor.listenUDP(port, protocol, interface=interface, maxPacketSize=max_packet)
    bound = Port(port, protocol, interface, max_packet, reactor)
    bound.startListening()
    return bound
