"""`ansible-playbook deploy.yml` on real peers of this machine."""

from __future__ import annotations

import re
import stat
import tomllib
from typing import TYPE_CHECKING

import pytest

from scenarios.testbed.observe import fetch_status

if TYPE_CHECKING:
    from playing import Deployment


def alphas(deployment: Deployment) -> list[int]:
    """Return α as each running peer has it."""
    statuses = [fetch_status(peer) for peer in deployment.provider.topology().peers]
    return [status["alpha"] for status in statuses if status]


def test_a_second_deployment_changes_nothing(deployment: Deployment) -> None:
    """changed=0, the same processes; and not even the most talkative output shows the token."""
    before = deployment.pids()
    run = deployment.play("-vvv")
    assert run.status == 0, run.output
    assert run.recap["changed"] == 0
    assert deployment.pids() == before
    assert (deployment.folder.config / "control.token").read_text().strip() not in run.output


def test_a_changed_setting_restarts_only_the_peer_it_touches(deployment: Deployment) -> None:
    """Checked first without effect, then done, then taken back."""
    before = deployment.pids()
    override = {"kademlia_peer_overrides": {"peer2": {"alpha": 5}}}
    checked = deployment.play("--check", "--diff", **override)
    assert checked.status == 0, checked.output
    assert re.search(r"^\+alpha = 5$", checked.output, re.MULTILINE)
    assert deployment.pids() == before
    assert alphas(deployment) == [3, 3, 3]
    run = deployment.play(**override)
    assert run.status == 0, run.output
    after = deployment.pids()
    assert [name for name in before if before[name] != after[name]] == ["peer2"]
    assert alphas(deployment) == [3, 5, 3]
    assert deployment.play().status == 0
    assert alphas(deployment) == [3, 3, 3]


def test_a_configuration_that_was_written_but_not_deployed_is_noticed_later(deployment: Deployment) -> None:
    """A run that ends between `configure` and `service` loses nothing."""
    before = deployment.pids()
    run = deployment.play("--tags", "configure", kademlia_alpha="6")
    assert run.status == 0, run.output
    assert deployment.pids() == before
    run = deployment.play("--tags", "service,wait", "--limit", "local", kademlia_alpha="6")
    assert run.status == 0, run.output
    assert alphas(deployment) == [6, 6, 6]
    assert all(deployment.pids()[name] != pid for name, pid in before.items())


def test_a_changed_node_is_installed_and_every_peer_restarted(deployment: Deployment) -> None:
    """Only the node: the environment with its dependencies stays."""
    before, environment = deployment.pids(), (deployment.folder.venv / "pyvenv.cfg").stat().st_mtime_ns
    source = deployment.source / "kademlia" / "errors.py"
    text = source.read_text()
    source.write_text(text + "\n")
    run = deployment.play()
    source.write_text(text)
    assert run.status == 0, run.output
    assert all(deployment.pids()[name] != pid for name, pid in before.items())
    assert (deployment.folder.venv / "pyvenv.cfg").stat().st_mtime_ns == environment


def test_nothing_that_was_written_is_open_to_others(deployment: Deployment) -> None:
    """The token is a secret, stores are private, the socket gives control of every peer."""
    folder = deployment.folder
    token = folder.config / "control.token"
    assert re.fullmatch(r"[0-9a-f]{64}\n", token.read_text())
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    for path in (folder.root, folder.config, folder.data, folder.logs, folder.supervisor, folder.socket):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_check_of_a_testbed_that_was_never_deployed_changes_nothing(never: Deployment) -> None:
    """It says what it would do, and does not fail for what is not there yet."""
    before = sorted(path.name for path in never.folder.root.iterdir())
    run = never.play("--check", "--diff")
    assert run.status == 0, run.output
    assert run.recap["changed"] > 0
    assert sorted(path.name for path in never.folder.root.iterdir()) == before


def test_peers_that_do_not_join_are_named_with_the_end_of_a_log(never: Deployment) -> None:
    """A peer whose bootstrap peers do not exist gives up; the deployment says which and why."""
    run = never.play(kademlia_bootstrap=["127.0.43.99:9"], kademlia_join_timeout=3)
    assert run.status != 0
    assert "not joined: peer1 (127.0.43.10:18480)" in run.output
    assert "peer2 (127.0.43.11:18481)" in run.output
    assert "The log of peer1 ends:" in run.output


def test_peers_find_each_other_at_new_addresses(never: Deployment) -> None:
    """They all move at once: one after the other would look for the rest where it is no longer."""
    current = never.folder.read()
    assert current is not None
    assert never.play().status == 0
    ids = [tomllib.loads(path.read_text())["node"]["port"] for path in sorted(never.folder.config.glob("*.toml"))]
    current.settings["udp_port"] += 100
    never.folder.write(current)
    run = never.play()
    assert run.status == 0, run.output
    after = [
        tomllib.loads(path.read_text())["node"]["port"] for path in sorted(never.folder.config.glob("*.toml"))
    ]
    assert after == [port + 100 for port in ids]
    statuses = [fetch_status(peer) for peer in never.provider.topology().peers]
    assert [status and status["contacts"] for status in statuses] == [1, 1]


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"kademlia_alpha": 0}, "positive kademlia_ksize"),
        ({"kademlia_profile": "slow"}, "value of kademlia_profile must be one of: paper, lab, demo"),
        ({"kademlia_intervals": {"refesh": 3}}, "refesh"),
        ({"kademlia_intervals": {"expire": -5}}, "must be greater than 0"),
        ({"kademlia_peers": []}, "at least one peer in kademlia_peers"),
        ({"kademlia_peer_overrides": {"peer7": {"alpha": 4}}}, "names peer7, no peer"),
        ({"kademlia_supervisor_socket": f"/tmp/{'x' * 120}"}, "too long for a socket"),  # noqa: S108
    ],
)
def test_an_impossible_variable_fails_before_anything_is_started(
    never: Deployment, variables: dict[str, object], words: str
) -> None:
    """With a message that names it."""
    run = never.play(**variables)
    assert run.status != 0
    assert words in run.output
    assert not never.folder.supervisor_conf.exists()


def test_an_inventory_that_does_not_exist_is_an_error_and_not_an_empty_testbed(never: Deployment) -> None:
    """Ansible's own default is to go on with no hosts."""
    run = never.play("-i", "inventory/no-such.yml")
    assert run.status != 0
    assert "no-such.yml" in run.output
