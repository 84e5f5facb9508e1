"""SIGSTOP: the peer keeps its sockets and its memory, and answers nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scenarios.faults.base import Needs

if TYPE_CHECKING:
    from scenarios.testbed.model import Peer, Provider


class Pause(Needs):
    """The zombie: alive to its service manager, dead to the network; it comes back with old values."""

    name = "pause"
    needs = frozenset({"pause"})
    state = "paused"

    def inject(self, provider: Provider, peer: Peer) -> None:
        """Suspend the peer's process."""
        provider.pause(peer)

    def heal(self, provider: Provider, peer: Peer) -> None:
        """Resume the peer's process."""
        provider.resume(peer)
