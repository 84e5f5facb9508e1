"""What must be true before a run touches anything: capabilities, k, healthy peers; assumptions are stated."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp

from scenarios.engine.fleet import wait_healthy
from scenarios.errors import MissingCapability, PhaseFailed, UsageError
from scenarios.faults import fault_named

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from scenarios.faults.schedule import Step
    from scenarios.testbed.model import Peer, Provider, Topology

#: which providers have a capability, for the error that sends the user there
PROVIDERS_WITH: Mapping[str, str] = {
    "kill": "local, lxc, libvirt, virtualbox, fleet",
    "stop": "local, lxc, libvirt, virtualbox, fleet",
    "pause": "local, lxc, libvirt, virtualbox, fleet",
    "wipe": "local, lxc, libvirt, virtualbox, fleet",
    "partition": "lxc, libvirt, virtualbox, fleet",
    "bandwidth": "lxc, libvirt, virtualbox, fleet",
    "netem": "libvirt, virtualbox, fleet",
    "clock": "libvirt, virtualbox, fleet",
    "disk": "libvirt, virtualbox, fleet",
    "reboot": "libvirt, virtualbox, fleet",
}

#: how long healthy peers may take to say so
PATIENCE = 30.0
_TIMEOUT = aiohttp.ClientTimeout(total=5.0)


def require_capabilities(provider: Provider, needs: Iterable[str], scenario: str) -> None:
    """Raise `MissingCapability`, naming the providers that have what this one lacks."""
    for capability in sorted(set(needs) - provider.capabilities):
        others = PROVIDERS_WITH.get(capability, "no provider yet")
        raise MissingCapability(
            f"scenario {scenario} needs {capability!r}, which provider {provider.name} does not have; "
            f"these do: {others}"
        )


def needed_by(steps: Iterable[Step]) -> set[str]:
    """Return the capabilities that the faults of a schedule need."""
    return {need for step in steps for need in fault_named(step.fault).needs}


def repair_limit(replicate: float) -> float:
    """Return the seconds within which a network that replicates every `replicate` seconds has repaired itself.

    Section 2.5 of the paper lets a holder skip one round when it received the pair in the last interval, so a
    repair may take two intervals; half an interval and 15 s more are allowed for jitter, rejoining and load.
    """
    return 2.5 * replicate + 15.0


@dataclass(frozen=True, slots=True)
class Facts:
    """What the peers said of themselves."""

    ksize: int
    #: seconds between two replications by a holder
    replicate: float
    nodes: Mapping[str, str]
    node_version: str

    def as_data(self) -> dict[str, Any]:
        """Return plain values for the results."""
        return {
            "ksize": self.ksize,
            "replicate": self.replicate,
            "nodes": dict(self.nodes),
            "node_version": self.node_version,
        }


async def inspect(session: aiohttp.ClientSession, peers: Sequence[Peer], patience: float = PATIENCE) -> Facts:
    """Wait for every peer to be healthy and return what they say; raises `PhaseFailed` naming any that is not."""
    waits = {peer.name: asyncio.create_task(wait_healthy(session, peer)) for peer in peers}
    try:
        await asyncio.wait(waits.values(), timeout=patience)
        missing = [name for name, task in waits.items() if not task.done()]
    finally:
        for task in waits.values():
            task.cancel()
    if missing:
        raise PhaseFailed(
            f"not up and joined: {', '.join(missing)}; bring them back with `fab testbed.heal` and run again"
        )
    statuses = dict(
        zip(
            (peer.name for peer in peers),
            await asyncio.gather(*(_status(session, peer) for peer in peers)),
            strict=True,
        )
    )
    ksizes = {int(status["ksize"]) for status in statuses.values()}
    if len(ksizes) > 1:
        raise PhaseFailed(f"peers were deployed with different k ({sorted(ksizes)}): deploy them again")
    nodes = {name: str(status["id"]) for name, status in statuses.items()}
    if len(set(nodes.values())) < len(nodes):
        raise PhaseFailed("two peers have the same node ID: deploy them again")
    replicate = max(float(status["intervals"]["replicate"]) for status in statuses.values())
    version = ", ".join(sorted({str(status.get("version", "")) for status in statuses.values()}))
    return Facts(ksizes.pop(), replicate, nodes, version)


async def _status(session: aiohttp.ClientSession, peer: Peer) -> dict[str, Any]:
    try:
        async with session.get(f"{peer.url}/status", timeout=_TIMEOUT) as response:
            status: dict[str, Any] = await response.json()
        # Asked for here, so that a peer that lacks one of them is named.
        status["id"], status["ksize"], status["intervals"]["replicate"]
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError, TypeError) as error:
        raise PhaseFailed(f"{peer.name} does not answer /status as agreed: {error!r}") from None
    return status


def assumptions(topology: Topology, ksize: int, reads: float) -> list[str]:
    """Return what a reader must know to judge the verdict."""
    peers = len(topology.peers)
    remarks = []
    if ksize >= peers:
        remarks.append(
            f"k = {ksize} is not smaller than the {peers} peers: every peer should hold every key, so losing some "
            "peers says little about placement"
        )
    if peers == 1:
        raise UsageError("a scenario needs 2 peers or more: what one peer writes another one reads")
    if reads == 0.0:
        remarks.append("no gets are made during the workload: availability will be unknown")
    return remarks
