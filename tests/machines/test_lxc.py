"""The way from nothing to a network on three machines and back, as the README shows it, on LXC containers."""

from __future__ import annotations

import re
from hashlib import sha1
from pathlib import Path

import pytest
from containers import Containers, inhabitants, wait_for

pytestmark = pytest.mark.root

ADDRESSES = {"peer1": "192.168.33.10", "peer2": "192.168.33.11", "peer3": "192.168.33.12"}
UDP = {"peer1": 8468, "peer2": 8469, "peer3": 8470}
TOKEN = "/etc/kademlia/control.token"  # noqa: S105 - a path


def test_the_namespace_has_no_way_out(closed: Containers) -> None:
    assert closed.ok("ip", "route", "show", "default") == ""
    links = closed.ok("ip", "-brief", "link").split("\n")
    assert {line.split()[0].split("@")[0] for line in links if line} <= {"lo", "kademlia0"}


def test_vagrant_brings_three_machines_up(machines: Containers) -> None:
    status = machines.ok("vagrant", "status")
    assert re.findall(r"^(peer\d) +running \(lxc\)$", status, re.MULTILINE) == list(ADDRESSES)


def test_a_second_deployment_changes_nothing(machines: Containers) -> None:
    recap = machines.run("ansible-playbook", "deploy.yml", timeout=200)
    assert recap.status == 0, recap.output
    counts = recap.recap()
    assert set(counts) == set(ADDRESSES), recap.output
    assert [c["changed"] for c in counts.values()] == [0, 0, 0], recap.output
    assert [c["failed"] + c["unreachable"] for c in counts.values()] == [0, 0, 0], recap.output


def test_what_one_peer_is_given_another_serves(machines: Containers) -> None:
    curl = ("curl", "-sSf", "-m", "10")
    machines.ok(*curl, "--data", "hi there", "http://192.168.33.10:8080/dht/one")
    assert machines.ok(*curl, "http://192.168.33.12:8080/dht/one") == "hi there"
    neighbours = machines.get("192.168.33.11", "/neighbours")
    assert {n["address"] for n in neighbours} == {"192.168.33.10", "192.168.33.12"}


@pytest.mark.parametrize("name", list(ADDRESSES))
def test_the_unit_is_enabled_and_confined(machines: Containers, name: str) -> None:
    unit = f"kademlia@{name}"
    shown = machines.shell(
        name,
        f"systemctl is-active {unit}; systemctl is-enabled {unit}; systemctl show -P User {unit}; "
        f"ps -o user= -p $(systemctl show -P MainPID {unit}); "
        f"sudo grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/$(systemctl show -P MainPID {unit})/status; "
        "systemctl list-units --failed --plain --no-legend",
    )
    words = shown.split()
    assert words[:4] == ["active", "enabled", "kademlia", "kademlia"], shown
    assert words[4:] == ["CapEff:", "0000000000000000", "NoNewPrivs:", "1", "Seccomp:", "2"], shown


def test_only_what_is_declared_listens(machines: Containers) -> None:
    for name, address in ADDRESSES.items():
        lines = machines.shell(name, "ss -Hlntu").splitlines()
        places = {line.split()[4] for line in lines}
        assert places == {f"{address}:{UDP[name]}", f"{address}:8080", "0.0.0.0:22", "[::]:22"}


def test_nobody_else_reads_token_or_data(machines: Containers) -> None:
    shown = machines.shell(
        "peer2",
        f"sudo stat -c '%A %U %G' {TOKEN} /etc/kademlia /var/lib/kademlia/peer2; "
        f"cat {TOKEN} 2>&1; ls /var/lib/kademlia/peer2 2>&1; true",
    )
    lines = shown.splitlines()
    assert lines[0] == "-rw-r----- root kademlia"
    assert lines[1] == "drwxr-x--- root kademlia"
    assert lines[2] == "drwxr-x--- kademlia kademlia"
    assert all("Permission denied" in line for line in lines[3:]), shown
    assert len(lines) == 5, shown


def test_every_machine_has_an_identity_of_its_own(machines: Containers) -> None:
    ask = "cat /etc/machine-id; cut -d' ' -f2 /etc/ssh/ssh_host_ed25519_key.pub; sudo cat " + TOKEN
    identities = [machines.shell(name, ask).split() for name in ADDRESSES]
    assert all(len(identity) == 3 for identity in identities)
    assert len({part for identity in identities for part in identity}) == 9


def test_a_killed_peer_comes_back_with_its_data(machines: Containers) -> None:
    address = ADDRESSES["peer2"]
    machines.ok("curl", "-sSf", "-m", "10", "--data", "kept", f"http://{address}:8080/dht/kept")
    before = machines.get(address, "/status")
    machines.shell("peer2", "sudo systemctl kill --signal=KILL kademlia@peer2")
    wait_for(
        lambda: machines.joined(address) and machines.get(address, "/status")["pid"] != before["pid"],
        30,
        "the killed peer",
    )
    assert machines.get(address, "/status")["id"] == before["id"]
    held = {entry["key"] for entry in machines.get(address, "/storage")["keys"]}
    assert sha1(b"kept", usedforsecurity=False).hexdigest() in held
    assert machines.shell("peer2", "systemctl show -P NRestarts kademlia@peer2") == "1"


def test_a_machine_that_starts_again_rejoins_with_its_data(machines: Containers) -> None:
    machines.ok("vagrant", "reload", "peer3", timeout=120)
    wait_for(lambda: machines.joined(ADDRESSES["peer3"]), 60, "the peer of the machine that started again")
    held = {entry["key"] for entry in machines.get(ADDRESSES["peer3"], "/storage")["keys"]}
    assert sha1(b"kept", usedforsecurity=False).hexdigest() in held


def test_destroy_leaves_nothing(machines: Containers) -> None:
    namespace = Path("/proc", machines.hold.read_text().strip(), "ns", "net").stat().st_ino
    machines.ok("vagrant", "destroy", "-f", timeout=120)
    assert machines.ok("lxc-ls").split() == []
    assert [line.split()[0] for line in machines.ok("ip", "-brief", "link").splitlines()] == ["lo"]
    # What holds the namespace, what asks, and SSH's connections, which end by themselves: no machine, no peer.
    running = set(machines.ok("ps", "-e", "-o", "comm=").split())
    assert running <= {"bash", "sleep", "timeout", "ps", "ssh"}
    assert not (machines.kit / ".testbed").exists()

    machines.close()
    assert inhabitants(namespace) == []
    assert not [path for path in Path("/sys/fs/cgroup").glob("*/isolated.*") if path.is_dir()]
