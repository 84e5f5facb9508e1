"""The one clock of a run: seconds since it began, handed to everything that needs the time."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Time as a run sees it."""

    def now(self) -> float:
        """Return the seconds since the run began; never goes back."""
        ...

    async def sleep_until(self, moment: float) -> None:
        """Return at `moment` (seconds since the run began), at once when it has passed."""
        ...


class RunClock:
    """Monotonic time since construction; `wall` is the one wall-clock time of a run (Unix seconds)."""

    def __init__(self) -> None:
        self.wall = time.time()
        self._zero = time.monotonic()

    def now(self) -> float:
        """Return the seconds since construction."""
        return time.monotonic() - self._zero

    async def sleep_until(self, moment: float) -> None:
        """Sleep until `moment`; yields to the loop even when it has passed."""
        await asyncio.sleep(max(0.0, moment - self.now()))
