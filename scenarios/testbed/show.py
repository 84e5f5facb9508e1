"""How the testbed looks on a terminal and as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scenarios.testbed.model import Topology
    from scenarios.testbed.observe import Observation

STYLES = {"joined": "green", "alone": "green", "joining": "yellow", "paused": "yellow", "down": "yellow"}
ID_DIGITS = 8


def table(topology: Topology, observations: Sequence[Observation]) -> Table:
    """Return a table with a line for each peer."""
    shown = Table(
        title=f"{len(topology.peers)} peers on {topology.provider}, k = {topology.ksize}, α = {topology.alpha}, "
        f"profile {topology.profile}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for heading in ("peer", "address", "UDP", "node ID", "state"):
        shown.add_column(heading, no_wrap=True)
    for heading in ("uptime", "contacts", "keys"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for seen in observations:
        status = seen.status or {}
        style = STYLES.get(seen.state, "red")
        shown.add_row(
            seen.peer.name,
            f"{seen.peer.address}:{seen.peer.http_port}",
            str(seen.peer.udp_port),
            str(status.get("id", ""))[:ID_DIGITS],
            f"[{style}]{seen.state}[/]" + (f" ({seen.service.detail})" if seen.state == "failed" else ""),
            span(status.get("uptime", seen.service.uptime)),
            str(status.get("contacts", "")),
            str(status.get("keys", "")),
        )
    return shown


def as_json(topology: Topology, observations: Sequence[Observation]) -> str:
    """Return the same as JSON, complete."""
    peers = [
        {
            "name": seen.peer.name,
            "host": seen.peer.host,
            "address": seen.peer.address,
            "udp_port": seen.peer.udp_port,
            "http_port": seen.peer.http_port,
            "url": seen.peer.url,
            "state": seen.state,
            "pid": seen.service.pid,
            "id": (seen.status or {}).get("id"),
            "uptime": (seen.status or {}).get("uptime", seen.service.uptime),
            "contacts": (seen.status or {}).get("contacts"),
            "keys": (seen.status or {}).get("keys"),
        }
        for seen in observations
    ]
    parameters = {"provider": topology.provider, "ksize": topology.ksize, "alpha": topology.alpha}
    return json.dumps({**parameters, "profile": topology.profile, "peers": peers}, indent=2)


def summary(topology: Topology, seconds: float) -> str:
    """Return the last word of a successful `testbed.up`."""
    first, last = topology.peers[0], topology.peers[-1]
    count = len(topology.peers)
    if count == 1:
        return f"1 peer is up after {seconds:.1f} s: {first.url}"
    return f"{count} peers are up and have joined after {seconds:.1f} s: {first.url} … {last.url}"


def span(seconds: float | None) -> str:
    """Return a time span for a person: 42s, 3m05s, 2h10m."""
    if seconds is None:
        return ""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02}m"
