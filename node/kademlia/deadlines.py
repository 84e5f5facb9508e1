"""Many deadlines on one timer.

A reactor's own delayed calls cost a heap entry, an object and a cancellation each.  Of the deadlines of requests
nearly all are never reached, because the answer comes first.  Here a deadline is a tuple in a heap, what was
settled is left there until its time comes, and one delayed call serves all.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from kademlia.clock import Clock, DelayedCall

#: seconds; deadlines less far apart than this are served together, up to this late
GRAIN = 0.01
#: deadlines served in one turn of the loop; each may mean a datagram
PER_TURN = 100


class Deadlines:
    """Calls `reached` with a name when its deadline comes; whoever is called knows whether it still matters."""

    def __init__(self, clock: Clock, reached: Callable[[bytes], None]) -> None:
        self._clock = clock
        self._reached = reached
        self._heap: list[tuple[float, bytes]] = []
        self._timer: DelayedCall | None = None
        self._timer_at = 0.0

    def add(self, deadline: float, name: bytes) -> None:
        """Call for a name when the clock reaches `deadline`, or up to `GRAIN` later."""
        heappush(self._heap, (deadline, name))
        if self._timer is None or deadline < self._timer_at - GRAIN:
            self._set(deadline)

    def clear(self) -> None:
        """Forget all of them."""
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        now = self._clock.seconds()
        self._timer_at = max(at, now)
        self._timer = self._clock.callLater(self._timer_at - now, self._due)

    def _due(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        heap = self._heap
        for _ in range(PER_TURN):
            if not heap or heap[0][0] > now + 1e-9:  # a delay added to a time need not give the sum exactly
                break
            self._reached(heappop(heap)[1])
        else:
            self._set(now)
        if heap and self._timer is None:
            self._set(max(heap[0][0], now + GRAIN))
