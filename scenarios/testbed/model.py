"""The contract between scenarios and whatever keeps peers alive.

A scenario sees peers, their state, and the verbs of `Provider`; it never sees processes, containers or SSH.
All verbs block and are quick (no verb waits for a peer to join the network: that is observed over HTTP);
asynchronous callers run them in a thread.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from scenarios.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Peer:
    """One Kademlia node: a service instance on a host, with addresses and a store of its own."""

    name: str
    host: str
    address: str
    udp_port: int
    http_port: int

    @property
    def url(self) -> str:
        """Root of this peer's HTTP endpoints, without a trailing slash."""
        return f"http://{self.address}:{self.http_port}"


@dataclass(frozen=True, slots=True)
class Topology:
    """Which peers are current, and with which Kademlia parameters they were deployed."""

    provider: str
    peers: tuple[Peer, ...]
    #: replication parameter k of the paper
    ksize: int
    #: lookup parallelism α of the paper
    alpha: int
    #: interval profile: "paper", "lab" or "demo"
    profile: str

    def peer(self, name: str) -> Peer:
        """Return the peer of that name; raises `UsageError` naming those that exist."""
        for peer in self.peers:
            if peer.name == name:
                return peer
        raise UsageError(f"no peer {name!r} in the testbed; it has {', '.join(p.name for p in self.peers)}")


@dataclass(frozen=True, slots=True)
class ServiceState:
    """What the service manager says of one peer's process; whether it has joined is asked over HTTP."""

    #: "up", "down" (stopped or killed on purpose), "paused", "failed" (died or never came up)
    state: str
    pid: int | None = None
    #: seconds since the process was started; None when it is not running
    uptime: float | None = None
    detail: str = ""


class Provider(Protocol):
    """One way of having peers.  Every verb raises `TestbedError` with what to do when it fails."""

    name: str
    #: faults that can be made here, of: kill stop pause wipe partition netem bandwidth reboot clock disk
    capabilities: frozenset[str]

    def topology(self) -> Topology:
        """Return the declared topology of the current testbed."""
        ...

    def states(self) -> Mapping[str, ServiceState]:
        """Return the service manager's view, by peer name, of every peer."""
        ...

    def kill(self, peer: Peer) -> None:
        """SIGKILL the peer; it stays down until `start`.  No effect on a peer that is down."""
        ...

    def stop(self, peer: Peer) -> None:
        """Stop the peer in an orderly way (SIGTERM); it stays down until `start`."""
        ...

    def start(self, peer: Peer) -> None:
        """Start the peer's process.  No effect on a peer that is up."""
        ...

    def pause(self, peer: Peer) -> None:
        """SIGSTOP the peer."""
        ...

    def resume(self, peer: Peer) -> None:
        """SIGCONT the peer."""
        ...

    def wipe(self, peer: Peer) -> None:
        """Delete the store of a peer that is down (its node ID is kept); refuses while it is up."""
        ...

    def heal(self) -> list[str]:
        """Undo every fault: resume, start, unblock.  Return a sentence for each thing that was done."""
        ...

    def reconfigure(self, settings: Mapping[str, object]) -> None:
        """Deploy again with these role variables changed (for example `kademlia_ksize`); rolling."""
        ...

    def log_files(self, peer: Peer) -> list[Path]:
        """Return local paths with the peer's log, oldest first (fetched where the peer is remote)."""
        ...


@dataclass(frozen=True, slots=True)
class LockOwner:
    """Who holds the testbed."""

    pid: int
    command: str
    since: str
    extra: Mapping[str, str] = field(default_factory=dict)
