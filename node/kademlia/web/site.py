"""The HTTP server around the API: how much a client may send, for how long, over how many connections."""

# mypy: allow-untyped-calls
from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.interfaces import ITCPTransport
from twisted.web import http, server

from kademlia.web.errors import error_body

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress
    from twisted.python.failure import Failure
    from twisted.web.resource import Resource

#: seconds after the connection was made, or its last request was answered, in which a request must arrive whole
REQUEST_TIMEOUT: Final = 60.0
#: seconds for which what a refused client still sends is thrown away, so that it gets to read the answer
LINGER: Final = 2.0
MAX_CONNECTIONS: Final = 512
#: bytes of a header's name; the longest registered one has some 40
MAX_HEADER_NAME: Final = 100


class PeerChannel(http.HTTPChannel):
    """One connection.  Bytes do not renew its time-out: a client that drips must not hold it for ever."""

    factory: PeerSite
    _hopeless = False

    def connectionMade(self) -> None:
        """Count the connection."""
        self.factory.channels.add(self)
        super().connectionMade()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """Forget the connection."""
        self.factory.channels.discard(self)
        super().connectionLost(reason)

    def resetTimeout(self) -> None:
        """Do nothing; Twisted calls this for whatever arrives."""

    def lineReceived(self, line: bytes) -> None:
        """Take a line of a request head."""
        if not self._hopeless:
            super().lineReceived(line)

    def rawDataReceived(self, data: bytes) -> None:
        """Take a part of a body."""
        if not self._hopeless:
            super().rawDataReceived(data)

    def pauseProducing(self) -> None:
        """Start no further request: 64 KiB of answers wait for a client that does not take them.

        Twisted stops reading then, but answers whatever it has read, and reads on after each answer.
        """
        self.paused = True
        super().pauseProducing()  # type: ignore[misc]  # LineReceiver's is typed as one without self

    def resumeProducing(self) -> None:
        """Go on with what was held back: all answers have left."""
        self.paused = False
        super().resumeProducing()
        self.dataReceived(b"")

    def requestDone(self, request: http.Request) -> None:
        """Read on only if the client takes its answers; if it never does, the time-out ends the connection."""
        super().requestDone(request)
        transport: Any = self.transport
        if self.paused and not transport.disconnecting:
            self._networkProducer.pauseProducing()

    def _respondToBadRequestAndDisconnect(self) -> None:
        """Answer 400 once; Twisted itself would go on with the next line and fail in the middle of it."""
        self._hopeless = True
        super()._respondToBadRequestAndDisconnect()

    def headerReceived(self, line: bytes) -> bool:
        """Refuse a Content-Length so long that Twisted could not turn it into a number, and an overlong name.

        Twisted keeps the first ten thousand names that it meets, for good.
        """
        name, _, value = line.partition(b":")
        if len(name) > MAX_HEADER_NAME or (name.lower() == b"content-length" and len(value) > 32):
            self._respondToBadRequestAndDisconnect()
            return False
        return bool(super().headerReceived(line))


class PeerRequest(server.Request):
    """One request.  Its body is held in memory and never grows beyond the site's limit."""

    channel: Any
    content: Any
    #: whether it was answered before it had arrived
    refused = False
    _linger: Any = None

    def gotLength(self, length: int | None) -> None:
        """Refuse a body that is announced as too large; `length` is None for a chunked one."""
        self.content = BytesIO()
        if length is not None and length > self.channel.site.body_limit:
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:
        """Keep a part of the body, as long as there is room."""
        if self.refused:
            return
        if self.content.tell() + len(data) > self.channel.site.body_limit:
            self._refuse()
        else:
            self.content.write(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Serve the request, unless it was answered already."""
        if not self.refused:
            super().requestReceived(command, path, version)

    def getRequestHostname(self) -> bytes:
        """Nothing here depends on the Host header, which may hold anything."""
        return b"peer"

    def connectionLost(self, reason: Failure) -> None:
        """Stop lingering."""
        if self._linger is not None and self._linger.active():
            self._linger.cancel()
        super().connectionLost(reason)

    def _refuse(self) -> None:
        """Answer 413 at once, then throw away what still comes for a moment.

        Closing with unread data would make the kernel send a reset, which can overtake the answer.
        """
        self.refused = True
        self.content = BytesIO()
        self.requestHeaders.removeHeader(b"expect")  # or Twisted would send "100 Continue" behind the answer
        site = self.channel.site
        transport: Any = self.channel.transport
        body = error_body(
            f"the body is larger than {site.body_limit} bytes; store less, or raise [storage] max_value"
        )
        transport.write(
            b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Type: application/json\r\n"
            b"X-Content-Type-Options: nosniff\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        if ITCPTransport.providedBy(transport):
            transport.loseWriteConnection()
            self._linger = site.reactor.callLater(LINGER, transport.abortConnection)
        else:
            transport.loseConnection()


class PeerSite(server.Site):
    """The HTTP server of one peer.  `body_limit`: largest request body in bytes."""

    protocol = PeerChannel  # type: ignore[assignment]  # plain HTTP/1.1, without the HTTP/2 negotiation of TLS
    noisy = False
    displayTracebacks = False

    def __init__(self, resource: Resource, body_limit: int, reactor: Any) -> None:
        super().__init__(
            resource,
            requestFactory=PeerRequest,
            timeout=REQUEST_TIMEOUT,
            reactor=reactor,
            # A body is a value, never a form, whatever type `curl --data` gives it.
            parsePOSTFormSubmission=False,
        )
        self.body_limit = body_limit
        self.channels: set[PeerChannel] = set()

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Accept a connection while there are not too many; None closes it."""
        if len(self.channels) >= MAX_CONNECTIONS:
            return None
        return super().buildProtocol(addr)

    def close_idle(self) -> None:
        """Close the connections on which nobody waits for an answer."""
        for channel in tuple(self.channels):
            if not channel.requests:
                channel.loseConnection()
            elif channel.requests[-1].refused:
                transport: Any = channel.transport
                transport.abortConnection()

    def log(self, request: http.Request) -> None:
        """Keep no access log: peers are counted by /metrics, and a line per request would cost more than it."""
