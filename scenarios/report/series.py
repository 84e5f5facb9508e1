"""Figures over time, cut down to what a picture can show: the browser gets no more points than it has pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scenarios.history import History

#: steps of time that a bin may have, seconds
_NICE = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
#: a picture has at most this many bins
_BINS = 120


@dataclass(frozen=True, slots=True)
class Bin:
    """The workload's operations whose intended start falls into one step of time."""

    start: float
    #: seconds; the last bin ends with the workload
    width: float
    ok: int
    bad: int
    missed: int
    #: seconds, of the operations that succeeded; None without any
    p50: float | None
    p95: float | None
    p99: float | None


def percentile(ordered: Sequence[float], q: float) -> float | None:
    """Return the smallest value that at least the fraction `q` of the ordered values do not exceed."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)]


def bin_width(seconds: float) -> float:
    """Return the step of time, in seconds, that cuts a span into a number of bins that can be seen."""
    return next((step for step in _NICE if seconds / step <= _BINS), seconds / _BINS)


def bins(history: History) -> list[Bin]:
    """Return every bin from the beginning to the end of the workload."""
    span = history.span("workload")
    if span is None or span[1] <= span[0]:
        return []
    begin, end = span
    width = bin_width(end - begin)
    # A last bin of a few milliseconds would show a rate that nobody measured.
    count = max(1, math.ceil((end - begin) / width - 0.1))
    good: list[list[float]] = [[] for _ in range(count)]
    bad = [0] * count
    missed = [0] * count
    for op in history.ops:
        if op.phase == "workload":
            index = min(count - 1, max(0, int((op.intended - begin) / width)))
            if op.outcome == "ok":
                good[index].append(op.latency)
            else:
                bad[index] += 1
    for moment, starts in history.missed:
        missed[min(count - 1, max(0, int((moment - begin) / width)))] += starts
    made = []
    for index, latencies in enumerate(good):
        latencies.sort()
        made.append(
            Bin(
                begin + index * width,
                width if index + 1 < count else end - begin - index * width,
                len(latencies),
                bad[index],
                missed[index],
                percentile(latencies, 0.5),
                percentile(latencies, 0.95),
                percentile(latencies, 0.99),
            )
        )
    return made
