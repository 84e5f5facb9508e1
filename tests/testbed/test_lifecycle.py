"""`fab testbed.up` and `down`: refused before anything is touched, idempotent, and gone without a trace."""

from __future__ import annotations

import os
import signal
import socket
from typing import TYPE_CHECKING

import pytest
from driving import Testbed, eventually

from scenarios.testbed import processes
from scenarios.testbed.state import StateFolder

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--peers=0", "--peers must be a whole number from 1"),
        ("--peers=many", "--peers must be a whole number"),
        ("--udp-port=-1", "--udp-port must be a whole number from 1"),
        ("--http-port=70000", "http_port must be a whole number from 1 to 65535"),
        ("--k=0", "--k must be a whole number"),
        ("--profile=slow", "profile must be one of paper, lab, demo"),
        ("--provider=docker", "unknown provider 'docker'"),
        ("--provider=lxc", "vagrant up --provider=lxc"),
        ("--provider=fleet", "ansible-playbook -i"),
        ("--first-address=10.0.0.1", "not within 127.0.0.0/8"),
        ("--peer=3", "no option --peer"),
        ("-i /nowhere", "ansible-playbook -i FILE"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path: Path, option: str, words: str) -> None:
    """Exit status 2, one line on stderr, no state folder."""
    testbed = Testbed(StateFolder(tmp_path / "state"))
    words_given = [*option.split(), "testbed.up"] if option.startswith("-i") else ["testbed.up", option]
    refused = testbed.fab(*words_given)
    assert refused.returncode == 2
    assert words in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
    assert not testbed.folder.root.exists()


def test_hosts_are_refused_because_the_inventory_names_them(tmp_path: Path) -> None:
    """`fab -H a,b` would deploy twice."""
    refused = Testbed(StateFolder(tmp_path / "state")).fab("-H", "a,b", "testbed.status")
    assert refused.returncode == 2
    assert refused.stderr.startswith("fab: -H does not go with")


@pytest.mark.parametrize("task", ["status", "logs", "heal"])
def test_without_a_testbed_every_task_says_how_to_get_one(tmp_path: Path, task: str) -> None:
    """And makes no folder; `down` has nothing to do."""
    testbed = Testbed(StateFolder(tmp_path / "state"))
    refused = testbed.fab(f"testbed.{task}")
    assert refused.returncode == 2
    assert "run `fab testbed.up`" in refused.stderr
    assert testbed.fab("testbed.down").returncode == 0
    assert not testbed.folder.root.exists()


@pytest.mark.parametrize(
    ("kind", "port", "words"),
    [(socket.SOCK_DGRAM, 18471, "UDP port 18471"), (socket.SOCK_STREAM, 18083, "TCP port 18083")],
)
def test_an_occupied_port_is_named_before_anything_is_touched(
    testbed: Testbed, kind: socket.SocketKind, port: int, words: str
) -> None:
    """A fourth peer would need it; the three that run are not in their own way."""
    before = testbed.pids()
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind(("127.0.40.13", port))
        if kind is socket.SOCK_STREAM:
            other.listen()
        refused = testbed.fab("testbed.up", "--peers=4")
    assert refused.returncode == 2
    assert f"{words} on 127.0.40.13, wanted for peer4, is in use" in refused.stderr
    assert "--udp-port" in refused.stderr or "--http-port" in refused.stderr
    assert testbed.pids() == before


def test_up_again_touches_no_peer_and_a_second_one_at_the_same_time_is_refused(testbed: Testbed) -> None:
    """The second names the first; the first ends well."""
    before = testbed.pids()
    first = testbed.begin("testbed.up")
    eventually(testbed.folder.deploy_pid.exists)
    second = testbed.fab("testbed.up")
    assert second.returncode == 2
    assert f"process {first.pid}" in second.stderr
    assert first.wait() == 0
    assert testbed.pids() == before


def test_a_testbed_grows_and_shrinks(testbed: Testbed) -> None:
    """New peers join the old ones, which are not restarted; peers that go take their stores with them."""
    before = testbed.pids()
    assert testbed.fab("testbed.up", "--peers=5").returncode == 0
    assert {name: testbed.pids()[name] for name in before} == before
    assert [row["state"] for row in testbed.status()] == ["joined"] * 5
    assert testbed.fab("testbed.up", "--peers=3").returncode == 0
    assert testbed.pids() == before
    assert sorted(path.name for path in testbed.folder.data.iterdir()) == ["peer1", "peer2", "peer3"]


def test_down_leaves_neither_process_nor_file_even_after_crashes(bare: Testbed) -> None:
    """Supervisord was killed: its pid file is stale, its peer an orphan that nobody manages."""
    up = bare.fab("testbed.up")
    assert up.returncode == 0, up.stderr
    assert [row["state"] for row in bare.status()] == ["alone"]
    peer = bare.pids()["peer1"]
    supervisord = int((bare.folder.supervisor / "supervisord.pid").read_text())
    os.kill(supervisord, signal.SIGKILL)
    eventually(lambda: not processes.arguments(supervisord))
    assert processes.belonging(bare.folder) == [peer]
    down = bare.fab("testbed.down")
    assert down.returncode == 0, down.stderr
    assert "1 processes ended" in down.stdout
    assert processes.belonging(bare.folder) == []
    assert not bare.folder.root.exists()
    assert not bare.folder.runtime.exists()


def test_a_deployment_that_fails_says_why_and_down_cleans(bare: Testbed) -> None:
    """One line with the task's message and both ways on."""
    current = bare.folder.read()
    assert current is not None
    current.variables["kademlia_peer_overrides"] = {"peer9": {"alpha": 4}}
    bare.folder.write(current)
    failed = bare.fab("testbed.up")
    assert failed.returncode == 2
    assert "names peer9, no peer" in failed.stderr
    assert "`fab testbed.down` removes it" in failed.stderr
    assert len(failed.stderr.strip().splitlines()) == 1
    assert bare.fab("testbed.down").returncode == 0
    assert not bare.folder.root.exists()


def test_ctrl_c_during_up_ends_the_deployment_and_down_cleans(bare: Testbed) -> None:
    """Exit status 130, a hint, and no Ansible left behind."""
    up = bare.begin("testbed.up")
    eventually(bare.folder.deploy_pid.exists)
    up.send_signal(signal.SIGINT)
    _, complaint = up.communicate(timeout=30)
    assert up.returncode == 130
    assert "fab testbed.down" in complaint
    assert "Traceback" not in complaint
    assert not bare.folder.deploy_pid.exists()
    assert bare.fab("testbed.down").returncode == 0
    assert not bare.folder.root.exists()


def test_files_that_are_not_the_testbeds_survive_down(tmp_path: Path) -> None:
    """TESTBED_STATE may name a folder that holds other things."""
    (tmp_path / "thesis.tex").write_text("irreplaceable")
    assert Testbed(StateFolder(tmp_path)).fab("testbed.down").returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
