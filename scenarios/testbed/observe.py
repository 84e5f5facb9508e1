"""Ask every peer how it is: the service manager about its process, the peer itself over HTTP."""

from __future__ import annotations

import http.client
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scenarios.testbed.model import ServiceState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scenarios.testbed.model import Peer

JOINED = ("joined", "alone")


@dataclass(frozen=True, slots=True)
class Observation:
    """One peer at one moment."""

    peer: Peer
    service: ServiceState
    #: the answer of GET /status; None when there was none
    status: Mapping[str, Any] | None

    @property
    def state(self) -> str:
        """What a person wants to know first: the peer's own state, or what became of its process."""
        if self.service.state in ("paused", "down", "failed"):
            return self.service.state
        return str(self.status["state"]) if self.status else "no answer"

    @property
    def joined(self) -> bool:
        """Whether the peer serves."""
        return self.state in JOINED


def fetch_status(peer: Peer, timeout: float = 2.0) -> Mapping[str, Any] | None:
    """Return a peer's /status, or None when it does not answer within `timeout` seconds."""
    connection = http.client.HTTPConnection(peer.address, peer.http_port, timeout=timeout)
    try:
        connection.request("GET", "/status")
        answer = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return answer if isinstance(answer, dict) and "state" in answer else None


def observe(peers: Sequence[Peer], services: Mapping[str, ServiceState]) -> list[Observation]:
    """Return an observation of every peer; those without a running process are not asked."""

    def one(peer: Peer) -> Observation:
        service = services.get(peer.name, ServiceState("up", detail="its service manager was not asked"))
        return Observation(peer, service, fetch_status(peer) if service.state == "up" else None)

    with ThreadPoolExecutor(max_workers=32) as pool:
        return list(pool.map(one, peers))


def wait_until_joined(peers: Sequence[Peer], timeout: float) -> list[Peer]:
    """Wait until all peers serve; return those that do not after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        missing = [o.peer for o in observe(peers, {}) if not o.joined]
        if not missing or time.monotonic() >= deadline:
            return missing
        time.sleep(0.2)
