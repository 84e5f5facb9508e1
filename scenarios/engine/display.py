"""What the terminal shows while a run goes on: a live bar, or plain lines where there is no terminal."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Status:
    """A glance at a run."""

    phase: str
    #: seconds in this phase
    elapsed: float
    #: seconds that the phase takes, or takes at most; None when nobody knows
    limit: float | None
    at_most: bool
    #: operations a second, lately
    rate: float
    done: int
    errors: int
    missed: int
    #: None until the peers were asked
    up: int | None
    peers: int
    #: state of every peer that is not up
    down: Mapping[str, str] = field(default_factory=dict)

    def left(self) -> str:
        """Return the time left in words."""
        if self.limit is None:
            return f"{self.elapsed:.0f} s"
        left = max(0.0, self.limit - self.elapsed)
        return f"{'at most ' if self.at_most else ''}{left:.0f} s left"

    def fleet(self) -> str:
        """Return how many peers are up, or that they are being asked."""
        return f"asking {self.peers} peers" if self.up is None else f"peers {self.up}/{self.peers}"

    def faults(self) -> str:
        """Return the faults that are active, by peer."""
        return ", ".join(f"{name} {state}" for name, state in self.down.items()) or "none"


class Display(Protocol):
    """Shows a run."""

    def say(self, text: str) -> None:
        """Show a line that stays."""
        ...

    def update(self, status: Status) -> None:
        """Show the state of the run; called a few times a second."""
        ...

    def close(self) -> None:
        """Leave the terminal as it was."""
        ...


class Quiet:
    """Shows nothing."""

    def say(self, text: str) -> None:
        """Drop the line."""

    def update(self, status: Status) -> None:
        """Drop the state."""

    def close(self) -> None:
        """Nothing to leave."""


class Lines:
    """One line for each remark, and one every `every` seconds: for files and CI."""

    def __init__(self, every: float = 5.0) -> None:
        self._every = every
        self._last = ("", 0.0)

    def say(self, text: str) -> None:
        """Print the line."""
        print(text, flush=True)

    def update(self, status: Status) -> None:
        """Print the state when the phase is new or the last line is old."""
        phase, moment = self._last
        now = time.monotonic()
        if status.phase == phase and now - moment < self._every:
            return
        self._last = (status.phase, now)
        print(
            f"{status.phase:<9} {status.left():<16} {status.rate:6.0f} op/s  {status.errors} errors  "
            f"{status.fleet()}  faults: {status.faults()}",
            flush=True,
        )

    def close(self) -> None:
        """Nothing to leave."""


class Bar:
    """A bar with the time left, and the state of load and peers below it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        # Starts with the first state: a run that is refused before must not leave a terminal without its cursor.
        self._live = Live(console=console, refresh_per_second=8, transient=True)

    def say(self, text: str) -> None:
        """Print the line above the bar."""
        self._console.print(Text(text))

    def update(self, status: Status) -> None:
        """Draw the state."""
        head = Table.grid(padding=(0, 2))
        bar = ProgressBar(
            total=status.limit or 1.0,
            completed=min(status.elapsed, status.limit or 0.0),
            width=32,
            pulse=status.limit is None,
        )
        head.add_row(Text(f"{status.phase:<9}", style="bold"), bar, Text(status.left()))
        errors = Text(f"{status.errors} errors", style="yellow" if status.errors else "dim")
        if status.missed:
            errors.append(f", {status.missed} starts missed", style="yellow")
        facts = Text.assemble(f"{status.rate:.0f} op/s, {status.done} done, ", errors, f" · {status.fleet()}")
        faults = Text(f"faults: {status.faults()}", style="magenta" if status.down else "dim")
        self._live.start()
        self._live.update(Group(head, facts, faults))

    def close(self) -> None:
        """Remove the bar."""
        self._live.stop()


def display_for(console: Console) -> Display:
    """Return the bar on a terminal, plain lines elsewhere."""
    return Bar(console) if console.is_terminal else Lines()
