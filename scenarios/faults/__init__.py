"""Ways to break a network: one module a fault, and schedules that say when and on whom.

A fault is three things: what a provider must be able to do for it, how it is injected into a peer, and how it is
healed.  Verbs block; the runner calls them in threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scenarios.errors import UsageError
from scenarios.faults import kill, pause, stop, wipe
from scenarios.faults.base import Fault, NoFault

if TYPE_CHECKING:
    from collections.abc import Mapping

#: every fault by name
FAULTS: Mapping[str, Fault] = {
    fault.name: fault for fault in (kill.Kill(), stop.Stop(), pause.Pause(), wipe.Wipe())
}


def fault_named(name: str) -> Fault:
    """Return the fault; raises `UsageError` naming those that exist."""
    try:
        return FAULTS[name]
    except KeyError:
        raise UsageError(f"no fault {name!r}; there are {', '.join(sorted(FAULTS))}") from None


__all__ = ["FAULTS", "Fault", "NoFault", "fault_named"]
