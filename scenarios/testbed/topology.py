"""Expand the declaration of a testbed into hosts and peers; pure, apart from `load` which reads two files.

`inventory/hosts.py` runs this module without the packages of the controller, so it needs only PyYAML.
"""

from __future__ import annotations

import ipaddress
from dataclasses import MISSING, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import yaml

from scenarios.errors import UsageError
from scenarios.testbed.model import Peer, Topology

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PROFILES = ("paper", "lab", "demo")
#: providers whose peers run on machines made by Vagrant
VAGRANT_PROVIDERS = ("virtualbox", "libvirt", "lxc")
PROVIDERS = ("local", *VAGRANT_PROVIDERS, "fleet")
LOCAL_HOST = "local"
MAX_PEERS = 10_000
MAX_PORT = 65_535


@dataclass(frozen=True, slots=True)
class Declaration:
    """What is wanted: `inventory/topology.yml` for one provider, with the current testbed's settings over it."""

    provider: str
    peers: int
    ksize: int
    alpha: int
    profile: str
    first_address: str
    subnet: str
    udp_port: int
    http_port: int
    peers_per_host: int = 1
    one_address: bool = False
    box: str = ""
    memory: int = 512
    cpus: int = 1


#: what `fab testbed.up` may change, that is, what current.json may hold
SETTINGS = tuple(field.name for field in fields(Declaration) if field.name not in ("box", "memory", "cpus"))


@dataclass(frozen=True, slots=True)
class Host:
    """What Ansible and Fabric log in to."""

    name: str
    address: str
    peers: tuple[Peer, ...]


def load(path: Path, settings: Mapping[str, Any] | None = None) -> Declaration:
    """Read the declaration at `path` with `settings` over it; raises `UsageError` naming file, key and remedy."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    try:
        declared = declare(document, {})
    except UsageError as error:
        raise UsageError(f"{path.name}: {error}") from None
    # What is wrong from here on is wrong with an option, not with the file.
    return declare(document, settings) if settings else declared


def declare(document: Any, settings: Mapping[str, Any]) -> Declaration:
    """Merge a parsed declaration and `settings`, and check the result; raises `UsageError`."""
    if not isinstance(document, dict) or not isinstance(document.get("providers"), dict):
        raise UsageError("expected a mapping with provider, peers, ksize, alpha, profile and providers")
    common = {key: value for key, value in document.items() if key != "providers"}
    provider = settings.get("provider", common.get("provider", LOCAL_HOST))
    if provider not in PROVIDERS:
        raise UsageError(f"unknown provider {provider!r}; known: {', '.join(PROVIDERS)}")
    if provider == "fleet":
        raise UsageError(
            "a fleet is declared in an inventory file of its own: ansible-playbook -i <file> deploy.yml"
        )
    own = document["providers"].get(provider)
    if not isinstance(own, dict):
        raise UsageError(f"providers has no section {provider!r}")
    merged = {**common, **own, **settings, "provider": provider}
    unknown = sorted(set(merged) - {field.name for field in fields(Declaration)})
    if unknown:
        raise UsageError(f"unknown setting {unknown[0]!r}")
    missing = [f.name for f in fields(Declaration) if f.name not in merged and f.default is MISSING]
    if missing:
        raise UsageError(f"setting {missing[0]!r} is missing")
    declaration = Declaration(**merged)
    _check(declaration)
    return declaration


def _check(declared: Declaration) -> None:
    """Refuse impossible values, one clear sentence each."""
    for name, highest in (
        ("peers", MAX_PEERS),
        ("ksize", 1000),
        ("alpha", 100),
        ("udp_port", MAX_PORT),
        ("http_port", MAX_PORT),
        ("peers_per_host", MAX_PEERS),
        ("memory", 1 << 20),
        ("cpus", 1024),
    ):
        value = getattr(declared, name)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= highest:
            raise UsageError(f"{name} must be a whole number from 1 to {highest}, not {value!r}")
    if declared.profile not in PROFILES:
        raise UsageError(f"profile must be one of {', '.join(PROFILES)}, not {declared.profile!r}")
    if not isinstance(declared.one_address, bool):
        raise UsageError(f"one_address must be true or false, not {declared.one_address!r}")
    hosts = _host_sizes(declared)
    last_udp, last_http = declared.udp_port + declared.peers - 1, declared.http_port + max(hosts) - 1
    for name, last in (("udp_port", last_udp), ("http_port", last_http)):
        if last > MAX_PORT:
            raise UsageError(
                f"{declared.peers} peers from {name} {getattr(declared, name)} need ports up to {last}"
            )
    if declared.provider == LOCAL_HOST:
        _check_addresses(declared, 1 if declared.one_address else declared.peers)
    elif declared.one_address:
        raise UsageError("one_address is for provider local; machines have addresses of their own")
    else:
        _check_addresses(declared, len(hosts))


def _check_addresses(declared: Declaration, count: int) -> None:
    try:
        first = ipaddress.IPv4Address(declared.first_address)
    except ValueError:
        raise UsageError(f"first_address must be an IPv4 address, not {declared.first_address!r}") from None
    try:
        subnet = ipaddress.IPv4Network(declared.subnet)
    except ValueError as error:
        raise UsageError(f"subnet must be an IPv4 network such as 192.168.33.0/24: {error}") from None
    if declared.provider == LOCAL_HOST and not (first.is_loopback and subnet.is_loopback):
        raise UsageError(f"provider local stays on this machine: first_address {first} is not within 127.0.0.0/8")
    if first not in subnet or first == subnet.network_address:
        raise UsageError(f"first_address {first} is not a host address of subnet {subnet}")
    if int(first) + count - 1 >= int(subnet.broadcast_address):
        raise UsageError(f"{count} addresses from {first} do not fit into subnet {subnet}")


def _host_sizes(declared: Declaration) -> list[int]:
    """Return how many peers each host carries; only the last host may carry fewer than the others."""
    if declared.provider == LOCAL_HOST:
        return [declared.peers]
    full, rest = divmod(declared.peers, declared.peers_per_host)
    return [declared.peers_per_host] * full + ([rest] if rest else [])


def expand(declared: Declaration) -> tuple[Host, ...]:
    """Return the hosts with their peers: peer1 to peerN, in order."""
    first = ipaddress.IPv4Address(declared.first_address)
    local = declared.provider == LOCAL_HOST
    hosts: list[Host] = []
    index = 0
    for number, size in enumerate(_host_sizes(declared)):
        # A machine that carries one peer is called like it, so that `vagrant ssh peer2` is what one expects.
        name = (
            LOCAL_HOST if local else f"peer{number + 1}" if declared.peers_per_host == 1 else f"host{number + 1}"
        )
        peers: list[Peer] = []
        for slot in range(size):
            offset = 0 if declared.one_address else index if local else number
            peers.append(
                Peer(
                    name=f"peer{index + 1}",
                    host=name,
                    address=str(first + offset),
                    udp_port=declared.udp_port + index,
                    http_port=declared.http_port + slot,
                )
            )
            index += 1
        hosts.append(Host(name, peers[0].address, tuple(peers)))
    return tuple(hosts)


def topology(declared: Declaration) -> Topology:
    """Return what scenarios see of the declaration."""
    return Topology(
        provider=declared.provider,
        peers=tuple(peer for host in expand(declared) for peer in host.peers),
        ksize=declared.ksize,
        alpha=declared.alpha,
        profile=declared.profile,
    )


def on_one_address(declared: Declaration) -> Declaration:
    """Return the declaration with all peers on 127.0.0.1, told apart by their ports."""
    return replace(declared, first_address="127.0.0.1", one_address=True)
