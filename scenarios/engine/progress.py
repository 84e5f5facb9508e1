"""Tells the display, a few times a second, which phase a run is in and how it goes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scenarios.engine.display import Display, Status

if TYPE_CHECKING:
    from scenarios.clock import Clock
    from scenarios.engine.fleet import Fleet
    from scenarios.workload import Tally

#: seconds over which the rate of operations is taken
_SPAN = 2.0


@dataclass(slots=True)
class Phase:
    """What a run is doing, since when, and how long it takes (at most)."""

    name: str = "preflight"
    since: float = 0.0
    limit: float | None = None
    at_most: bool = False


class Progress:
    """Shows one run."""

    def __init__(self, display: Display, clock: Clock, tally: Tally, fleet: Fleet) -> None:
        self.phase = Phase()
        self._display = display
        self._clock = clock
        self._tally = tally
        self._fleet = fleet

    def enter(self, name: str, limit: float | None, *, at_most: bool) -> None:
        """Show that a phase begins."""
        self.phase = Phase(name, self._clock.now(), limit, at_most)
        self._show(0.0)

    async def tick(self) -> None:
        """Show the run until cancelled."""
        seen: list[tuple[float, int]] = []
        while True:
            now = self._clock.now()
            seen = [item for item in seen if now - item[0] < _SPAN] + [(now, self._tally.done)]
            span = now - seen[0][0]
            self._show((self._tally.done - seen[0][1]) / span if span > 0.2 else 0.0)
            await asyncio.sleep(0.25)

    def _show(self, rate: float) -> None:
        tally, phase = self._tally, self.phase
        self._display.update(
            Status(
                phase.name,
                self._clock.now() - phase.since,
                phase.limit,
                phase.at_most,
                rate,
                tally.done,
                tally.done - tally.outcomes["ok"],
                tally.missed,
                # In preflight the peers are being asked: none that has not answered yet is down for that.
                None if phase.name == "preflight" else len(self._fleet.up()),
                len(self._fleet.peers),
                self._fleet.down(),
            )
        )
