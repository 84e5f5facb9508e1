"""Counters that a peer keeps about itself; `/metrics` and `/status` read them."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Literal, TypeVar, get_args

from twisted.internet.defer import CancelledError

from kademlia.errors import NoPeersReachable, QuotaExceeded, Superseded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: upper bounds in seconds: from a loopback round trip to a lookup among the dead
DURATION_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
HOP_BOUNDS = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
#: from a value at the first peer asked to some k of them dead; k is 20 in the paper
RPC_BOUNDS = (0.0, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 16.0, 20.0, 25.0, 30.0, 40.0, 60.0, 100.0)
REPLICA_BOUNDS = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 8.0, 10.0, 15.0, 20.0)

#: "republish": by this peer, of what it published an interval ago
PublicationKind = Literal["publish", "republish"]
#: "full": every holder that answered refused; "superseded": somebody published a newer value meanwhile
PublicationOutcome = Literal[
    "acknowledged", "full", "unreachable", "superseded", "too large", "cancelled", "failed"
]
#: why a record is sent to another peer
Reason = Literal[
    "publish",
    "republish",
    "replicate",  # as its holder, because nobody did within the interval, or to have it confirmed
    "handover",  # to a peer that joined and is one of the k closest
    "missed",  # to a holder that did not answer when it was stored, and is back
    "cache",  # found by a lookup, at the closest peer that answered without it
    "repair",  # found by a lookup, at a holder that answered with an older one
]
#: what became of a record that another peer sent: "newer" replaced what was held, "refreshed" is what was held,
#: "older" was not taken, "refused" was not either, because the store is full or broken
Reception = Literal["new", "newer", "refreshed", "older", "refused"]

#: why a datagram was dropped; "forged": an answer from another address than was asked
DropReason = Literal["malformed", "unasked", "forged", "unknown method", "unsendable"]
#: periodic work done: buckets refreshed, records replicated, republished and expired, STOREs of a handover
MaintenanceKind = Literal["refresh", "replicate", "republish", "expire", "handover"]

#: parts of large values, given to others or fetched from them
PartDirection = Literal["served", "pulled"]
#: what became of a large value being fetched: "lost": its source fell silent; "gone": it has it no more;
#: "mismatch": it sent something else; "busy": too many are fetched; "late": it took too long; "displaced": it gave
#: way to another; "cancelled": the peer stopped
PullOutcome = Literal["whole", "lost", "gone", "mismatch", "busy", "late", "displaced", "cancelled"]

Label = TypeVar("Label", bound=str)


@dataclass(slots=True)
class Histogram:
    """Counts of observations at or below each bound; the last place counts those above all bounds."""

    bounds: tuple[float, ...]
    counts: list[int] = field(init=False)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@dataclass(slots=True)
class Traffic(Generic[Label]):
    """Records that travelled, and the bytes of their encoded values."""

    records: defaultdict[Label, int] = field(default_factory=lambda: defaultdict(int))
    bytes: defaultdict[Label, int] = field(default_factory=lambda: defaultdict(int))

    def count(self, label: Label, size: int, times: int = 1) -> None:
        """Count a record of that many bytes, `times` times."""
        self.records[label] += times
        self.bytes[label] += size * times


@dataclass(slots=True)
class LookupStats:
    """The lookups of one kind."""

    seconds: Histogram = field(default_factory=lambda: Histogram(DURATION_BOUNDS))
    hops: Histogram = field(default_factory=lambda: Histogram(HOP_BOUNDS))
    rpcs: Histogram = field(default_factory=lambda: Histogram(RPC_BOUNDS))

    def observe(self, seconds: float, hops: int, rpcs: int) -> None:
        """Count one lookup that ended."""
        self.seconds.observe(seconds)
        self.hops.observe(hops)
        self.rpcs.observe(rpcs)


@dataclass(slots=True)
class PublicationStats:
    """The publications of one kind that asked the network."""

    seconds: Histogram = field(default_factory=lambda: Histogram(DURATION_BOUNDS))
    replicas: Histogram = field(default_factory=lambda: Histogram(REPLICA_BOUNDS))


@dataclass(slots=True)
class Attempt:
    """A publication under way: whoever makes it notes here what came of it."""

    outcome: PublicationOutcome = "failed"
    #: holders that acknowledged, this peer included
    replicas: int = 0


@dataclass(slots=True)
class Stats:
    """Everything counted since the process started."""

    #: (RPC name, outcome): calls are "ok", "error", "timeout", "cancelled"; requests "served", "refused", "full".
    #: No `Counter`: that counts slowly, and this is done twice for each RPC.
    rpcs: defaultdict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    #: (kind, outcome): kind "node" or "value"; outcome "converged", "found", "missing", "empty"
    lookups: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: by kind of lookup, "node" or "value"
    lookup: dict[str, LookupStats] = field(default_factory=lambda: {k: LookupStats() for k in ("node", "value")})
    publications: Counter[tuple[PublicationKind, PublicationOutcome]] = field(default_factory=Counter)
    publication: dict[PublicationKind, PublicationStats] = field(
        default_factory=lambda: {kind: PublicationStats() for kind in get_args(PublicationKind)}
    )
    sent: Traffic[Reason] = field(default_factory=Traffic)
    received: Traffic[Reception] = field(default_factory=Traffic)
    dropped: Counter[DropReason] = field(default_factory=Counter)
    maintenance: Counter[MaintenanceKind] = field(default_factory=Counter)
    retransmissions: int = 0
    part_bytes: Counter[PartDirection] = field(default_factory=Counter)
    pulls: Counter[PullOutcome] = field(default_factory=Counter)
    #: of UDP datagrams, without their headers
    bytes_sent: int = 0
    bytes_received: int = 0

    @contextmanager
    def publishing(self, kind: PublicationKind, seconds: Callable[[], float]) -> Iterator[Attempt]:
        """Count the publication that is made in this context, and what it took by that clock."""
        attempt, started = Attempt(), seconds()
        try:
            yield attempt
        except QuotaExceeded:
            attempt.outcome = "full"
            raise
        except Superseded:
            attempt.outcome = "superseded"
            raise
        except NoPeersReachable:
            attempt.outcome = "unreachable"
            raise
        except CancelledError:  # a client that left
            attempt.outcome = "cancelled"
            raise
        finally:
            self.publications[kind, attempt.outcome] += 1
            self.publication[kind].seconds.observe(seconds() - started)
            self.publication[kind].replicas.observe(attempt.replicas)
