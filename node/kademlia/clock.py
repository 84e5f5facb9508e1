"""What this package needs of time; a Twisted reactor has it, and so has `twisted.internet.task.Clock`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class DelayedCall(Protocol):
    """A call that will be made."""

    def cancel(self) -> None:
        """Take it back."""
        ...


class Clock(Protocol):
    """Monotonic seconds, and calls made later."""

    def seconds(self) -> float:
        """Return seconds since some fixed moment."""
        ...

    def callLater(self, delay: float, callable: Callable[..., object], /, *args: object) -> DelayedCall:  # noqa: A002, N802  (Twisted's names)
        """Call something after `delay` seconds."""
        ...
