"""Faults on real peers: what each verb does to the process, and that heal undoes it."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
from driving import eventually

from scenarios.errors import TestbedError as Failed
from scenarios.testbed import processes
from scenarios.testbed.observe import fetch_status

if TYPE_CHECKING:
    from driving import Testbed


def ending(testbed: Testbed, name: str) -> str:
    """Return supervisord's last word on how a peer ended."""
    log = (testbed.folder.supervisor / "supervisord.log").read_text()
    return next(line for line in reversed(log.splitlines()) if f"stopped: {name} (" in line)


def test_a_killed_peer_dies_by_sigkill_stays_down_and_comes_back_as_itself(testbed: Testbed) -> None:
    """SIGKILL, not SIGTERM; down until `start`; then the same node ID."""
    provider = testbed.provider
    peer = provider.topology().peer("peer2")
    before = fetch_status(peer)
    provider.kill(peer)
    assert provider.states()["peer2"].state == "down"
    assert "SIGKILL" in ending(testbed, "peer2")
    provider.kill(peer)  # no effect on a peer that is down
    provider.start(peer)
    after = eventually(lambda: fetch_status(peer))
    assert before is not None
    assert after["id"] == before["id"]
    assert after["pid"] != before["pid"]


def test_a_stopped_peer_ends_in_an_orderly_way_and_stays_down(testbed: Testbed) -> None:
    """SIGTERM, also for a peer that is paused."""
    provider = testbed.provider
    peer = provider.topology().peer("peer2")
    provider.pause(peer)
    provider.stop(peer)
    assert provider.states()["peer2"].state == "down"
    assert "SIGKILL" not in ending(testbed, "peer2")
    provider.stop(peer)  # no effect on a peer that is down


def test_a_peer_that_crashes_is_started_again(testbed: Testbed) -> None:
    """Only what is done on purpose, through the provider, keeps a peer down."""
    pid = testbed.pids()["peer3"]
    assert pid is not None
    eventually(lambda: testbed.provider.supervisor.process("peer3")["statename"] == "RUNNING")
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: testbed.pids()["peer3"] not in (None, pid))


def test_a_paused_peer_is_paused_until_resumed(testbed: Testbed) -> None:
    """The process lives and does not answer; starting it again has no effect."""
    provider = testbed.provider
    peer = provider.topology().peer("peer1")
    provider.pause(peer)
    assert eventually(lambda: provider.states()["peer1"].state == "paused")
    provider.start(peer)
    assert fetch_status(peer, timeout=0.3) is None
    provider.resume(peer)
    assert provider.states()["peer1"].state == "up"
    assert eventually(lambda: fetch_status(peer))


def test_a_store_is_wiped_only_while_its_peer_is_down(testbed: Testbed) -> None:
    """Everything goes but the node ID."""
    provider = testbed.provider
    peer = provider.topology().peer("peer2")
    folder = testbed.folder.data / "peer2"
    with pytest.raises(Failed, match="peer2 is up"):
        provider.wipe(peer)
    assert {path.name for path in folder.iterdir()} > {"node_id"}
    provider.kill(peer)
    with pytest.raises(Failed, match="peer2 is down"):
        provider.pause(peer)
    provider.wipe(peer)
    assert [path.name for path in folder.iterdir()] == ["node_id"]


def test_heal_says_what_it_did_and_nothing_when_nothing_is_wrong(testbed: Testbed) -> None:
    """A sentence for each peer that was paused or down."""
    provider = testbed.provider
    first, second, _ = provider.topology().peers
    provider.kill(first)
    provider.pause(second)
    assert provider.heal() == ["resumed peer2", "started peer1"]
    assert provider.heal() == []


def test_heal_brings_back_a_peer_whose_killer_was_killed(testbed: Testbed) -> None:
    """Frozen, and told to stop: that is how a `fab` that died in the middle of a kill leaves a peer."""
    pid = testbed.pids()["peer2"]
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: processes.is_stopped(pid))
    testbed.provider.supervisor.stop("peer2", wait=False)
    healed = testbed.fab("testbed.heal")
    assert healed.returncode == 0, healed.stderr
    assert "started peer2" in healed.stdout
    assert testbed.pids()["peer2"] not in {None, pid}


def test_heal_brings_everything_back_after_supervisord_was_killed(testbed: Testbed) -> None:
    """Its peers live on without it: they are ended, and all start again under a new one."""
    supervisord = int((testbed.folder.supervisor / "supervisord.pid").read_text())
    os.kill(supervisord, signal.SIGKILL)
    eventually(lambda: not processes.arguments(supervisord))
    assert len(processes.belonging(testbed.folder)) == 3
    with pytest.raises(Failed, match="run `fab testbed"):
        testbed.provider.states()
    refused = testbed.fab("testbed.status")
    assert refused.returncode == 2
    assert "fab testbed.heal" in refused.stderr
    healed = testbed.fab("testbed.heal")
    assert healed.returncode == 0, healed.stderr
    assert "3 stray processes ended" in healed.stdout
    assert "all 3 peers are up and have joined" in healed.stdout
    assert len(processes.belonging(testbed.folder)) == 4


def test_heal_works_after_the_controller_was_killed_in_mid_deployment(testbed: Testbed) -> None:
    """The lock is free, the orphaned deployment is ended, the peers are back."""
    up = testbed.begin("testbed.up")
    eventually(testbed.folder.deploy_pid.exists)
    up.kill()
    up.communicate()
    testbed.provider.kill(testbed.provider.topology().peer("peer1"))
    healed = testbed.fab("testbed.heal")
    assert healed.returncode == 0, healed.stderr
    assert "ended a deployment that had lost its controller" in healed.stdout
    assert "started peer1" in healed.stdout
    assert testbed.fab("testbed.up").returncode == 0


def test_a_setting_is_changed_by_a_rolling_deployment_and_seen_in_the_topology(testbed: Testbed) -> None:
    """`reconfigure` restarts every peer for another k, and is remembered by the commands after it."""
    before = testbed.pids()
    testbed.provider.reconfigure({"kademlia_ksize": 9})
    assert testbed.provider.topology().ksize == 9
    assert {peer.name for peer in testbed.provider.topology().peers} == set(before)
    assert all(testbed.pids()[name] != pid for name, pid in before.items())
    status = fetch_status(testbed.provider.topology().peer("peer3"))
    assert status is not None
    assert status["ksize"] == 9


def test_logs_are_shown_by_peer_and_by_number_of_lines(testbed: Testbed) -> None:
    """Each line bears the peer's name; a peer that is not there is named with those that are."""
    shown = testbed.fab("testbed.logs", "--peer=peer2", "--lines=3")
    assert [line.split()[0] for line in shown.stdout.splitlines()] == ["peer2"] * 3
    refused = testbed.fab("testbed.logs", "--peer=peer7")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "peer1, peer2, peer3" in refused.stderr


def test_status_lists_every_peer_with_what_it_says_of_itself(testbed: Testbed) -> None:
    """As a table for a person, as JSON for a program."""
    testbed.provider.kill(testbed.provider.topology().peer("peer3"))
    rows = testbed.status()
    assert [row["state"] for row in rows] == ["joined", "joined", "down"]
    assert all(len(row["id"]) == 40 for row in rows[:2])
    table = testbed.fab("testbed.status").stdout
    assert "127.0.40.12:18082" in table
    assert rows[0]["id"][:8] in table
