"""The interface of a fault, and the fault that does nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from scenarios.testbed.model import Peer, Provider


class Fault(Protocol):
    """One way of breaking one peer.  `inject` and `heal` block and raise `TestbedError` when they cannot."""

    @property
    def name(self) -> str:
        """What schedules and histories call it."""
        ...

    @property
    def needs(self) -> frozenset[str]:
        """Capabilities that a provider must have."""
        ...

    @property
    def state(self) -> str:
        """What a peer with this fault is, for timelines: "killed", "paused", …; "up" when clients may use it."""
        ...

    def available(self, provider: Provider) -> bool:
        """Whether this provider can inject it."""
        ...

    def inject(self, provider: Provider, peer: Peer) -> None:
        """Break the peer; no effect when it is already broken in this way."""
        ...

    def heal(self, provider: Provider, peer: Peer) -> None:
        """Undo it; no effect when there is nothing to undo."""
        ...


class Needs:
    """What the faults share: available is what the provider has the capabilities for."""

    needs: frozenset[str] = frozenset()

    def available(self, provider: Provider) -> bool:
        """Whether this provider has every capability that is needed."""
        return self.needs <= provider.capabilities


class NoFault(Needs):
    """Does nothing; the engine tests itself with it."""

    name = "none"
    state = "up"

    def inject(self, provider: Provider, peer: Peer) -> None:
        """Leave the peer alone."""

    def heal(self, provider: Provider, peer: Peer) -> None:
        """Leave the peer alone."""
