"""Counters that a peer keeps about itself; `/metrics` and `/status` read them."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import dataclass, field

#: upper bounds in seconds: from a loopback round trip to a lookup among the dead
DURATION_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
HOP_BOUNDS = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)


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
class Stats:
    """Everything counted since the process started."""

    #: (RPC name, outcome): "ok", "timeout", "late", "error" for calls; "served", "refused", "full" for requests
    rpcs: defaultdict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    #: (kind, outcome): kind "node" or "value"; outcome "converged", "found", "missing", "empty"
    lookups: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: why a datagram was dropped
    dropped: Counter[str] = field(default_factory=Counter)
    #: periodic work done, by kind: "refresh", "replicate", "republish", "expire", "handover"
    maintenance: Counter[str] = field(default_factory=Counter)
    lookup_seconds: Histogram = field(default_factory=lambda: Histogram(DURATION_BOUNDS))
    lookup_hops: Histogram = field(default_factory=lambda: Histogram(HOP_BOUNDS))
    retransmissions: int = 0
    #: bytes of parts of large values, "served" and "pulled"
    part_bytes: Counter[str] = field(default_factory=Counter)
    #: large values fetched, by outcome: "whole", "lost", "gone", "mismatch", "busy", "late", "displaced",
    #: "cancelled"
    pulls: Counter[str] = field(default_factory=Counter)
