"""One operation through one peer's HTTP endpoint, timed, judged and recorded."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

import aiohttp
from yarl import URL

from scenarios.history.model import Op

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scenarios.clock import Clock
    from scenarios.history import HistoryWriter
    from scenarios.testbed.model import Peer
    from scenarios.workload.keys import Ledger, Values


@dataclass(slots=True)
class Tally:
    """Running totals, for the live display only: verdicts come from the history."""

    outcomes: Counter[str] = field(default_factory=Counter)
    missed: int = 0
    in_flight: int = 0
    done: int = 0


class Client:
    """Puts and gets values through peers.

    Outcomes: a put is "ok" when the peer said so, "fail" when it certainly had no effect (connection refused, or
    the peer refused the value), otherwise "unknown".  A get is "ok" when it returned the right bytes, else "fail".
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        clock: Clock,
        history: HistoryWriter,
        values: Values,
        ledger: Ledger,
        peers: Mapping[str, Peer],
        *,
        timeout: float,
    ) -> None:
        self._session = session
        self._clock = clock
        self._history = history
        self._values = values
        self._ledger = ledger
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._roots = {name: f"{peer.url}/dht/" for name, peer in peers.items()}
        self._next_id = 0
        self.tally = Tally()
        #: status and text of the last put that was not acknowledged
        self.last_refusal = ""

    def _begin(self, kind: str, key: str, seq: int, peer: str, phase: str, intended: float) -> Op:
        now = self._clock.now()
        op = Op(self._next_id, kind, key, peer, phase, intended, now, now, "unknown", seq)
        self._next_id += 1
        self.tally.in_flight += 1
        return op

    def _finish(self, op: Op) -> Op:
        op.end = self._clock.now()
        tally = self.tally
        tally.in_flight -= 1
        tally.done += 1
        tally.outcomes[op.outcome] += 1
        self._history.op(op)
        return op

    def _url(self, peer: str, key: str) -> URL:
        return URL(self._roots[peer] + quote(key, safe="/"), encoded=True)

    async def put(self, key: str, seq: int, peer: str, *, phase: str, intended: float) -> Op:
        """Store the value of `key` and `seq` through `peer`; never raises for what the network does."""
        op = self._begin("put", key, seq, peer, phase, intended)
        self._history.invoked(op.id, key, seq, peer, op.start)
        try:
            async with self._session.put(
                self._url(peer, key), data=self._values.make(key, seq), timeout=self._timeout
            ) as response:
                body = await response.read()
                op.status = response.status
            _judge_put(op, body)
        except aiohttp.ClientConnectorError as error:
            op.outcome, op.detail = "fail", _reason(error)
        except TimeoutError:
            op.detail = "timeout"
        except (aiohttp.ClientError, OSError) as error:
            op.detail = _reason(error)
        finally:
            self._finish(op)
        if op.outcome == "ok":
            self._ledger.acknowledge(key, peer)
        else:
            self.last_refusal = f"{op.status} {op.detail}" if op.status else op.detail
        return op

    async def get(self, key: str, seq: int, peer: str, *, phase: str, intended: float) -> Op:
        """Read `key` through `peer` and compare what comes with the value of `seq`."""
        op = self._begin("get", key, seq, peer, phase, intended)
        op.outcome = "fail"
        try:
            async with self._session.get(self._url(peer, key), timeout=self._timeout) as response:
                body = await response.read()
                op.status = response.status
                hops = response.headers.get("X-Kademlia-Hops", "")
            if hops.isascii() and hops.isdigit():
                op.hops = int(hops)
            if op.status == 200:
                op.detail = self._values.complaint(key, seq, body)
                op.wrong = bool(op.detail)
                op.outcome = "fail" if op.wrong else "ok"
            else:
                op.detail = "not found" if op.status == 404 else _error_text(body)
        except TimeoutError:
            op.detail = "timeout"
        except (aiohttp.ClientError, OSError) as error:
            op.detail = _reason(error)
        except asyncio.CancelledError:
            op.detail = "cancelled"
            raise
        finally:
            self._finish(op)
        return op


def _judge_put(op: Op, body: bytes) -> None:
    if op.status == 200:
        op.outcome = "ok"
        try:
            replicas = json.loads(body)["replicas"]
            op.replicas = replicas if type(replicas) is int else None
        except (ValueError, KeyError, TypeError):
            op.detail = "acknowledged without saying by how many replicas"
    else:
        # A refusal (4xx, quota) has no effect; after any other error some peer may hold the value, and where a
        # concurrent put won (409), it may have been read before.
        refused = (400 <= op.status < 500 and op.status != 409) or op.status == 507
        op.outcome = "fail" if refused else "unknown"
        op.detail = _error_text(body)


def _error_text(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])[:200]
    except (ValueError, KeyError, TypeError):
        return body[:200].decode("utf-8", "replace")


def _reason(error: Exception) -> str:
    """Return a short cause, without the addresses that aiohttp repeats in its texts."""
    cause = getattr(error, "os_error", error)
    return (getattr(cause, "strerror", None) or str(cause) or type(error).__name__)[:200]
