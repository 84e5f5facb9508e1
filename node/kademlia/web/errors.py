"""From exceptions to HTTP answers, in one place."""

from __future__ import annotations

import json
from typing import Final

from twisted.internet.defer import CancelledError
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from kademlia.errors import (
    ConfigurationError,
    KademliaError,
    NoPeersReachable,
    QuotaExceeded,
    Superseded,
    ValueTooLarge,
)


class HTTPError(KademliaError):
    """A request that cannot be served; the message is shown to the client."""

    def __init__(self, code: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.headers = headers or {}


#: errors that are a client's business, with their status
_CODES: Final[dict[type[KademliaError], int]] = {
    ConfigurationError: 400,
    Superseded: 409,
    ValueTooLarge: 413,
    NoPeersReachable: 503,
    QuotaExceeded: 507,
}


def error_body(message: str) -> bytes:
    """Return the JSON that accompanies every error status."""
    return json.dumps({"error": message}).encode("ascii") + b"\n"


def as_http(error: BaseException | None) -> HTTPError:
    """Return what the client is told of an exception; of one that nobody expected, only where to look."""
    match error:
        case HTTPError():
            answer = error
        case MethodNotAllowed():
            allowed = ", ".join(sorted(error.valid_methods or ()))
            answer = HTTPError(405, f"this path takes {allowed}", {"Allow": allowed})
        case HTTPException():  # what klein's router raises
            answer = HTTPError(404, "there is no such path; /openapi.yaml lists them")
        case CancelledError():
            answer = HTTPError(503, "the peer is stopping")
        case KademliaError() if type(error) in _CODES:
            answer = HTTPError(_CODES[type(error)], str(error))
        case _:
            answer = HTTPError(500, "the peer failed; its log says why")
    return answer
