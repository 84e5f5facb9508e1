"""The answer to a client that is not served, and the end of its connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Protocol

from kademlia.web.errors import error_body

if TYPE_CHECKING:
    from twisted.python.failure import Failure

#: seconds for which what a refused client still sends is thrown away, so that it gets to read the answer
LINGER: Final = 2.0


def refuse(transport: Any, reactor: Any, status: str, message: str, *headers: str) -> Any:
    """Send an error and no more; returns the call that ends the connection, or None if it has ended.

    Closing with unread data would make the kernel send a reset, which can overtake the answer.
    """
    body = error_body(message)
    head = [f"HTTP/1.1 {status}", "Connection: close", "Content-Type: application/json", *headers]
    head += ["X-Content-Type-Options: nosniff", f"Content-Length: {len(body)}", "", ""]
    transport.write("\r\n".join(head).encode("ascii") + body)
    if not ITCPTransport.providedBy(transport):
        transport.loseConnection()
        return None
    transport.loseWriteConnection()
    return reactor.callLater(LINGER, transport.abortConnection)


def cancel(call: Any) -> None:
    """Cancel what `refuse` returned, once the connection has ended."""
    if call is not None and call.active():
        call.cancel()


class Busy(Protocol):
    """A connection too many: it is told so, whatever it asks for."""

    transport: Any

    def __init__(self, busy: set[Busy], reactor: Any) -> None:
        self._busy = busy
        self._reactor = reactor
        self._linger: Any = None

    def connectionMade(self) -> None:  # noqa: N802 - Twisted's name
        """Answer at once."""
        self._busy.add(self)
        message = "the peer has as many HTTP connections as it takes; close one, or try again"
        self._linger = refuse(self.transport, self._reactor, "503 Service Unavailable", message, "Retry-After: 1")

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # noqa: N802
        """Forget the connection."""
        self._busy.discard(self)
        cancel(self._linger)
