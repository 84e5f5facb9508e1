"""SIGTERM: the peer leaves in an orderly way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scenarios.faults.base import Needs

if TYPE_CHECKING:
    from scenarios.testbed.model import Peer, Provider


class Stop(Needs):
    """The peer is asked to end, as a service manager does; starting it again heals."""

    name = "stop"
    needs = frozenset({"stop"})
    state = "stopped"

    def inject(self, provider: Provider, peer: Peer) -> None:
        """Stop the peer; it stays down."""
        provider.stop(peer)

    def heal(self, provider: Provider, peer: Peer) -> None:
        """Start the peer."""
        provider.start(peer)
