"""A disk is lost: the peer is killed and its store deleted; it comes back with its node ID, empty."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scenarios.faults.base import Needs

if TYPE_CHECKING:
    from scenarios.testbed.model import Peer, Provider


class Wipe(Needs):
    """The peer loses everything it held; starting it heals the peer, not the data: that is the network's task."""

    name = "wipe"
    needs = frozenset({"kill", "wipe"})
    state = "wiped"

    def inject(self, provider: Provider, peer: Peer) -> None:
        """Kill the peer and delete its store."""
        provider.kill(peer)
        provider.wipe(peer)

    def heal(self, provider: Provider, peer: Peer) -> None:
        """Start the peer with an empty store."""
        provider.start(peer)
