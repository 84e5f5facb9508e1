"""SIGKILL: the peer is gone at once, its disk stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scenarios.faults.base import Needs

if TYPE_CHECKING:
    from scenarios.testbed.model import Peer, Provider


class Kill(Needs):
    """The peer's process dies without a chance to save anything; starting it again heals."""

    name = "kill"
    needs = frozenset({"kill"})
    state = "killed"

    def inject(self, provider: Provider, peer: Peer) -> None:
        """Kill the peer; it stays down."""
        provider.kill(peer)

    def heal(self, provider: Provider, peer: Peer) -> None:
        """Start the peer."""
        provider.start(peer)
