"""Commands of the testbed to a peer, for those who know the token that deployment wrote."""

from __future__ import annotations

import hmac
import json
from typing import TYPE_CHECKING

from kademlia.web.errors import HTTPError

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.web.server import Request

    from kademlia.shim import FaultShim


class Control:
    """Shutdown and faults behind a bearer token."""

    def __init__(self, token: bytes, shim: FaultShim, shut_down: Callable[[], object]) -> None:
        self._expected = b"Bearer " + token
        self._shim = shim
        self._shut_down = shut_down

    def authorise(self, request: Request) -> None:
        """Raise a 401 unless the request carries the token; takes as long for a nearly right one as for any."""
        given = request.requestHeaders.getRawHeaders(b"authorization", [b""])
        if len(given) != 1 or not hmac.compare_digest(given[0], self._expected):
            raise HTTPError(
                401,
                "send the header 'Authorization: Bearer …' with the token of control.token_file",
                {"WWW-Authenticate": "Bearer"},
            )

    def shutdown(self) -> dict[str, object]:
        """Stop the process soon after the answer has left."""
        self._shut_down()
        return {"state": "stopping"}

    def set_faults(self, body: bytes) -> dict[str, object]:
        """Replace the faults by those of the JSON body; returns what is in force."""
        try:
            settings = json.loads(body)
        except (ValueError, RecursionError):
            settings = None
        if not isinstance(settings, dict):
            raise HTTPError(
                400, 'the body must be a JSON object such as {"loss": 0.1, "blocked": ["127.0.0.1:8468"]}'
            )
        self._shim.configure(settings)
        return self._shim.as_json()

    def clear_faults(self) -> dict[str, object]:
        """Turn all faults off."""
        self._shim.clear()
        return self._shim.as_json()
