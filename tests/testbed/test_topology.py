"""The declaration expands into hosts and peers, or is refused in one line."""

from __future__ import annotations

import ipaddress
import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenarios.errors import UsageError
from scenarios.testbed.state import TOPOLOGY_FILE
from scenarios.testbed.topology import expand, load, topology

ROOT = Path(__file__).resolve().parents[2]


@given(st.integers(1, 600))
def test_local_peers_count_addresses_and_both_ports_up_from_the_first(count: int) -> None:
    """One host; the i-th peer is i away from the first in address, UDP port and HTTP port, also past .255."""
    (host,) = expand(load(TOPOLOGY_FILE, {"peers": count}))
    first = ipaddress.IPv4Address("127.0.33.10")
    assert [peer.name for peer in host.peers] == [f"peer{i + 1}" for i in range(count)]
    assert [peer.address for peer in host.peers] == [str(first + i) for i in range(count)]
    assert [peer.udp_port for peer in host.peers] == [8468 + i for i in range(count)]
    assert [peer.http_port for peer in host.peers] == [8080 + i for i in range(count)]


@given(st.integers(1, 200), st.integers(1, 20))
def test_no_two_peers_of_any_declaration_share_a_socket(count: int, per_host: int) -> None:
    """Address with UDP port, and address with HTTP port, are unique; every host but the last is full."""
    hosts = expand(load(TOPOLOGY_FILE, {"provider": "libvirt", "peers": count, "peers_per_host": per_host}))
    peers = [peer for host in hosts for peer in host.peers]
    assert len(peers) == count
    assert len({(peer.address, peer.udp_port) for peer in peers}) == count
    assert len({(peer.address, peer.http_port) for peer in peers}) == count
    assert all(len(host.peers) == per_host for host in hosts[:-1])


def test_virtual_machines_carry_one_peer_each_on_the_addresses_of_the_readme() -> None:
    """peer1..peer3 on 192.168.33.10 to .12, UDP 8468 and on, HTTP always 8080."""
    hosts = expand(load(TOPOLOGY_FILE, {"provider": "virtualbox"}))
    assert [host.name for host in hosts] == ["peer1", "peer2", "peer3"]
    found = [(p.address, p.udp_port, p.http_port) for host in hosts for p in host.peers]
    assert found == [
        ("192.168.33.10", 8468, 8080),
        ("192.168.33.11", 8469, 8080),
        ("192.168.33.12", 8470, 8080),
    ]


def test_peers_on_one_address_differ_in_their_ports() -> None:
    """Where only 127.0.0.1 exists, the ports tell the peers apart."""
    settings = {"one_address": True, "first_address": "127.0.0.1"}
    (host,) = expand(load(TOPOLOGY_FILE, settings))
    assert {peer.address for peer in host.peers} == {"127.0.0.1"}
    assert len({peer.udp_port for peer in host.peers}) == len({peer.http_port for peer in host.peers}) == 3


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"peers": 0}, "peers must be a whole number from 1"),
        ({"peers": True}, "peers must be a whole number"),
        ({"peers": "three"}, "peers must be a whole number"),
        ({"udp_port": -1}, "udp_port must be a whole number from 1 to 65535"),
        ({"http_port": 65535}, "need ports up to 65537"),
        ({"ksize": 0}, "ksize must be"),
        ({"profile": "slow"}, "profile must be one of paper, lab, demo"),
        ({"provider": "docker"}, "unknown provider 'docker'; known: local"),
        ({"first_address": "10.0.0.1"}, "stays on this machine"),
        ({"first_address": "localhost"}, "must be an IPv4 address"),
        ({"first_address": "127.255.255.254"}, "do not fit into subnet"),
        ({"provider": "libvirt", "first_address": "192.168.33.253"}, "do not fit into subnet 192.168.33.0/24"),
        ({"provider": "libvirt", "one_address": True}, "one_address is for provider local"),
        ({"colour": "red"}, "unknown setting 'colour'"),
    ],
)
def test_an_impossible_setting_is_refused_in_one_line(settings: dict[str, object], words: str) -> None:
    """The message names the setting and what is allowed."""
    with pytest.raises(UsageError, match=words) as refused:
        load(TOPOLOGY_FILE, settings)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [("[1, 2", "not YAML"), ("peers: 3", "expected a mapping"), ("providers: {local: 5}", "no section 'local'")],
)
def test_a_broken_declaration_is_refused_naming_the_file(tmp_path: Path, text: str, words: str) -> None:
    """So is a file that is not YAML, or YAML that is not a declaration."""
    path = tmp_path / "topology.yml"
    path.write_text(text)
    with pytest.raises(UsageError, match=rf"topology.yml.*{words}"):
        load(path)


def test_a_peer_that_does_not_exist_is_answered_with_those_that_do() -> None:
    """The error lists the names."""
    with pytest.raises(UsageError, match="peer1, peer2, peer3"):
        topology(load(TOPOLOGY_FILE)).peer("peer9")


def test_the_inventory_follows_the_current_testbed(tmp_path: Path) -> None:
    """hosts.py lists what current.json says, run by whichever Python `python3` is."""
    record = {"settings": {"peers": 2, "ksize": 7}, "variables": {"kademlia_log_level": "debug"}, "complete": True}
    (tmp_path / "current.json").write_text(json.dumps(record))
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "TESTBED_STATE": str(tmp_path)}
    output = subprocess.check_output([ROOT / "inventory/hosts.py", "--list"], env=environment)
    local = json.loads(output)["_meta"]["hostvars"]["local"]
    assert [peer["name"] for peer in local["kademlia_peers"]] == ["peer1", "peer2"]
    assert local["kademlia_ksize"] == 7
    assert local["kademlia_log_level"] == "debug"
    assert local["kademlia_config_dir"] == f"{tmp_path}/config"
