"""The HTTP server around the API: how much a client may send, for how long, over how many connections."""

# mypy: allow-untyped-calls
from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

from twisted.web import http, server

from kademlia.web.errors import error_body
from kademlia.web.refusal import Busy, cancel, refuse

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress
    from twisted.python.failure import Failure
    from twisted.web.resource import Resource

#: seconds after the connection was made, or its last request was answered, in which a request must arrive whole
REQUEST_TIMEOUT: Final = 60.0
MAX_CONNECTIONS: Final = 512
#: connections beyond those that are told so before they are closed
MAX_BUSY: Final = 64
#: bytes of answers that may wait to be sent when a request is started; also what one turn of the loop may produce
MAX_UNSENT: Final = 16 * 1024
#: bytes of a header's name; the longest registered one has some 40
MAX_HEADER_NAME: Final = 100


class PeerChannel(http.HTTPChannel):
    """One connection.  Bytes do not renew its time-out: a client that drips must not hold it for ever."""

    factory: PeerSite
    transport: Any
    #: whether it was answered with an error that ends it; nothing that it sends is looked at any more
    refused = False
    _linger: Any = None

    def connectionMade(self) -> None:
        """Count the connection."""
        self.factory.channels.add(self)
        self.transport.bufferSize = MAX_UNSENT
        super().connectionMade()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """Forget the connection."""
        self.factory.channels.discard(self)
        cancel(self._linger)
        super().connectionLost(reason)

    def refuse(self, status: str, message: str) -> None:
        """Answer with an error, once, and end the connection."""
        if not self.refused:
            self.refused = True
            self._linger = refuse(self.transport, self.factory.reactor, status, message)

    def resetTimeout(self) -> None:
        """Do nothing; Twisted calls this for whatever arrives."""

    def dataReceived(self, data: bytes) -> None:
        """Take what the client sends."""
        if not self.refused:
            super().dataReceived(data)

    def lineReceived(self, line: bytes) -> None:
        """Take a line of a request head."""
        if self.refused:
            self.clearLineBuffer()
        elif self._receivedHeaderSize + len(line) > self.totalHeadersSize:
            self._refuse_head()
        else:
            super().lineReceived(line)

    def lineLengthExceeded(self, line: bytes) -> None:
        """Refuse a line that is too long; there is no request yet if it is the request line."""
        if self.requests:
            self._refuse_head()
        else:
            self.refuse("414 URI Too Long", f"the request line is longer than {self.MAX_LENGTH} bytes")

    def _refuse_head(self) -> None:
        self.refuse(
            "431 Request Header Fields Too Large",
            f"the head of a request may have {self.totalHeadersSize} bytes and {self.maxHeaders} headers",
        )

    def rawDataReceived(self, data: bytes) -> None:
        """Take a part of a body."""
        if not self.refused:
            super().rawDataReceived(data)

    def pauseProducing(self) -> None:
        """Start no further request: the client does not take the answers as fast as it asks.

        Twisted stops reading then, but answers whatever it has read, and reads on after each answer.
        """
        self.paused = True
        super().pauseProducing()

    def resumeProducing(self) -> None:
        """Go on with what was held back: all answers have left."""
        self.paused = False
        super().resumeProducing()
        self.dataReceived(b"")

    def requestDone(self, request: http.Request) -> None:
        """Read on only if the client takes its answers; if it never does, the time-out ends the connection."""
        if not self.persistent:  # Twisted would wait for ever until the last answer has left
            self.setTimeout(REQUEST_TIMEOUT + self.abortTimeout)
        super().requestDone(request)
        if self.paused and not self.transport.disconnecting:
            producer: Any = self._networkProducer
            producer.pauseProducing()

    def timeoutConnection(self) -> None:
        """Close, and soon after throw away what the client has not taken; at once if it is closing already."""
        if self.transport.disconnecting:
            self.forceAbortClient()
        else:
            super().timeoutConnection()

    def _respondToBadRequestAndDisconnect(self) -> None:
        """Answer 400 once; Twisted itself would go on with the next line and fail in the middle of it."""
        self.refuse(
            "400 Bad Request", "this is no request of HTTP/1.1; look at the request line and at the headers"
        )

    def headerReceived(self, line: bytes) -> bool:
        """Refuse a Content-Length so long that Twisted could not turn it into a number, and an overlong name.

        Twisted keeps the first ten thousand names that it meets, for good.
        """
        name, _, value = line.partition(b":")
        if len(name) > MAX_HEADER_NAME or (name.lower() == b"content-length" and len(value) > 32):
            self._respondToBadRequestAndDisconnect()
            return False
        if self._receivedHeaderCount >= self.maxHeaders:
            self._refuse_head()
            return False
        return bool(super().headerReceived(line))


class PeerRequest(server.Request):
    """One request.  Its body is held in memory and never grows beyond the site's limit."""

    channel: Any
    content: Any

    def gotLength(self, length: int | None) -> None:
        """Refuse a body that is announced as too large; `length` is None for a chunked one."""
        self.content = BytesIO()
        if length is not None and length > self.channel.site.body_limit:
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:
        """Keep a part of the body, as long as there is room."""
        if self.channel.refused:
            return
        if self.content.tell() + len(data) > self.channel.site.body_limit:
            self._refuse()
        else:
            self.content.write(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Serve the request, unless it was answered already."""
        if not self.channel.refused:
            super().requestReceived(command, path, version)

    def getRequestHostname(self) -> bytes:
        """Nothing here depends on the Host header, which may hold anything."""
        return b"peer"

    def _handleStar(self) -> None:
        """Answer a request for the peer as such, `OPTIONS *`, and no other of its kind."""
        self.responseHeaders.removeHeader(b"server")
        if self.method == b"OPTIONS":
            super()._handleStar()
            return
        body = error_body("only OPTIONS can be asked of *")
        self.setResponseCode(405)
        for name, value in (("Allow", "OPTIONS"), ("Content-Type", "application/json")):
            self.setHeader(name, value)
        self.setHeader("Content-Length", str(len(body)))
        self.write(body)
        self.finish()

    def _refuse(self) -> None:
        """Answer 413 at once, without waiting for the rest of the body."""
        self.content = BytesIO()
        self.requestHeaders.removeHeader(b"expect")  # or Twisted would send "100 Continue" behind the answer
        self.channel.refuse(
            "413 Content Too Large",
            f"the body is larger than {self.channel.site.body_limit} bytes; "
            "store less, or raise [storage] max_value",
        )


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
        self.busy: set[Busy] = set()

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Accept a connection while there are not too many, and tell some of the others; None closes it."""
        if len(self.channels) >= MAX_CONNECTIONS:
            return Busy(self.busy, self.reactor) if len(self.busy) < MAX_BUSY else None
        return super().buildProtocol(addr)

    def close_idle(self) -> None:
        """Close the connections on which nobody waits for an answer."""
        for channel in tuple(self.channels):
            if channel.refused:
                channel.transport.abortConnection()
            elif not channel.requests:
                channel.loseConnection()
        for busy in tuple(self.busy):
            busy.transport.abortConnection()

    def log(self, request: http.Request) -> None:
        """Keep no access log: peers are counted by /metrics, and a line per request would cost more than it."""
