"""The engine against a fake cluster: every phase, planted defects, and nothing left broken."""

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from fake import FakeCluster

from scenarios import errors
from scenarios.engine.display import Quiet
from scenarios.engine.start import run_scenario
from scenarios.errors import MissingCapability, PhaseFailed, UsageError
from scenarios.history import HistoryWriter, load
from scenarios.library import SCENARIOS
from scenarios.report.summary import Summary
from scenarios.scenario import Plan, Scenario

FAST = {"duration": "1.2", "keys": "40", "rate": "60", "timeout": "1", "settle": "1.5", "seed": "5"}
#: with sessions of a second, all holders of a key are away at times: that is not what these tests are about
CHURN = {"session": "exponential:1", "downtime": "exponential:0.3", "availability": "0.5"}


def run(cluster: FakeCluster, results: Path, name: str = "churn", **given: object) -> tuple[Summary, Path]:
    options = {**FAST, "results": str(results), **{key.replace("_", "-"): value for key, value in given.items()}}
    if name == "churn":
        options = {**CHURN, **options}
    return run_scenario(SCENARIOS[name], options, cluster, Quiet())  # type: ignore[arg-type]


def verdicts(summary: Summary) -> dict[str, str]:
    return {check["check"]: check["verdict"] for check in summary["checks"]}


def test_churn_of_a_good_network_is_valid(cluster: FakeCluster, tmp_path: Path) -> None:
    """Peers were killed, everything was healed, and all files of the results are there."""
    summary, folder = run(cluster, tmp_path)
    assert (summary["verdict"], summary["exit_code"]) == ("valid", 0), summary["reason"]
    assert summary["faults"]["kill"] >= 1
    assert all(member.state == "up" for member in cluster.members.values())
    assert {path.name for path in folder.iterdir()} == {
        "history.jsonl", "summary.json", "report.html", "topology.json", "logs",
    }  # fmt: skip
    history = load(folder / "history.jsonl")
    assert [mark.phase for mark in history.marks if mark.what == "begin"] == [
        "preflight", "preload", "workload", "heal", "settle",
    ]  # fmt: skip
    assert len([op for op in history.ops if op.phase == "workload"]) == pytest.approx(72, abs=4)
    assert json.loads((folder / "summary.json").read_text()) == summary


def test_replication_kills_the_holders_and_sees_the_repair(cluster: FakeCluster, tmp_path: Path) -> None:
    """One by one and all but one: at least k + (k - 1) kills of peers that held the chosen key."""
    summary, folder = run(cluster, tmp_path, "replication", duration="0.5")
    assert summary["verdict"] == "valid", summary["reason"]
    assert summary["faults"]["kill"] >= 3 + 2
    assert any("repaired" in note["text"] for note in summary["notes"])
    assert load(folder / "history.jsonl").censuses


def test_wiping_all_holders_at_once_is_invalid_with_the_lost_keys_named(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    """No network can survive that, and a check that says otherwise is worthless."""
    summary, folder = run(cluster, tmp_path, "replication", victims="all", wipe=True, duration="0.3")
    assert (summary["verdict"], summary["exit_code"]) == ("invalid", 1)
    (durability,) = [check for check in summary["checks"] if check["check"] == "durability"]
    assert durability["verdict"] == "invalid"
    chosen = next(iter(load(folder / "history.jsonl").acknowledged()))
    assert chosen in durability["headline"]
    assert chosen in {item["key"] for item in durability["evidence"]}


@pytest.mark.parametrize(
    ("defect", "name", "options", "check"),
    [
        ("forgets", "replication", {"victims": "3", "duration": "0.3"}, "durability"),
        ("loses-puts", "churn", {"duration": "0.3"}, "durability"),
        ("corrupts", "churn", {"duration": "0.3"}, "durability"),
        # Reads find one of the two good copies: only what the peers say of their stores shows it.
        ("spoils-a-copy", "churn", {"duration": "0.3", "session": "fixed:1h"}, "durability"),
        ("spoils-a-copy", "churn", {"duration": "0.3", "session": "fixed:1h"}, "replication"),
        (
            "never-replicates",
            "replication",
            {"victims": "one-by-one", "wipe": True, "settle": "0.3"},
            "replication",
        ),
    ],
)
def test_a_planted_defect_is_found(
    defect: str, name: str, options: dict[str, Any], check: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each makes the check that is there for it invalid."""
    monkeypatch.setattr("scenarios.engine.run._READ_BACK_LEAST", 0.5)
    with FakeCluster(defects=frozenset({defect})) as cluster:
        summary, _ = run(cluster, tmp_path, name, **options)
    assert summary["exit_code"] == 1
    assert verdicts(summary)[check] == "invalid", summary["reason"]


def test_a_missing_capability_stops_before_anything_is_touched(tmp_path: Path) -> None:
    """The error names the providers that have it."""
    with FakeCluster(2, capabilities=frozenset({"kill"})) as cluster:
        with pytest.raises(MissingCapability, match=r"'wipe'.*local"):
            run(cluster, tmp_path, wipe=True)
        assert cluster.verbs == []
    assert list(tmp_path.iterdir()) == []


def test_an_impossible_combination_of_options_touches_nothing(cluster: FakeCluster, tmp_path: Path) -> None:
    """Five peers cannot churn when five must stay."""
    with pytest.raises(UsageError, match="--min-live=5"):
        run(cluster, tmp_path, min_live="5", k="2")
    assert cluster.verbs == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("extra", [{}, {"min_live": "4", "downtime": "fixed:1h"}])
def test_sessions_too_short_to_be_carried_out_are_refused(
    cluster: FakeCluster, tmp_path: Path, extra: dict[str, Any]
) -> None:
    """Whether the departures are made or skipped: drawing them would take for ever, and a run longer still."""
    with pytest.raises(UsageError, match=r"--session=fixed:1e-09 .* departures"):
        run(cluster, tmp_path, session="fixed:1e-9", **extra)
    assert cluster.verbs == []


def test_another_k_is_deployed_before_the_run(cluster: FakeCluster, tmp_path: Path) -> None:
    """And the run is judged by it."""
    summary, folder = run(cluster, tmp_path, k="2", duration="0.3")
    assert cluster.verbs[0] == "reconfigure {'kademlia_ksize': 2}"
    assert summary["verdict"] == "valid", summary["reason"]
    assert {census.ksize for census in load(folder / "history.jsonl").censuses} == {2}


def test_more_replicas_than_peers_are_allowed_and_noted(cluster: FakeCluster, tmp_path: Path) -> None:
    """Every peer should then hold every key."""
    summary, _ = run(cluster, tmp_path, k="20", duration="0.3", min_live="3")
    assert summary["verdict"] == "valid", summary["reason"]
    assert any("not smaller than the 5 peers" in note["text"] for note in summary["notes"])


def test_peers_that_are_not_up_stop_the_run_before_it_begins(
    cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are named, with the command that brings them back."""
    monkeypatch.setattr("scenarios.engine.preflight.PATIENCE", 0.3)
    monkeypatch.setattr("scenarios.engine.preflight.inspect.__defaults__", (0.3,))
    cluster.kill(cluster.members["peer2"].peer)
    with pytest.raises(PhaseFailed, match=r"peer2.*fab testbed\.heal"):
        run(cluster, tmp_path)


def test_a_provider_that_fails_in_mid_run_leaves_a_healed_network_and_an_unknown_verdict(
    cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason is in the results."""

    def broken(_peer: object) -> None:
        raise errors.TestbedError("no such supervisor")

    monkeypatch.setattr(cluster, "kill", broken)
    summary, folder = run(cluster, tmp_path)
    assert (summary["verdict"], summary["exit_code"]) == ("unknown", 2)
    assert "no such supervisor" in summary["reason"]
    assert cluster.verbs[-1] == "heal"
    assert (folder / "report.html").stat().st_size > 1000


def test_a_network_that_cannot_be_healed_is_unknown(
    cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be read may still be on the peer that is not back."""
    monkeypatch.setattr("scenarios.engine.run._HEAL_LIMIT", 0.3)
    monkeypatch.setattr(cluster, "heal", list)
    summary, _ = run(cluster, tmp_path, downtime="fixed:1h", session="fixed:0.5")
    assert summary["exit_code"] == 2
    assert "not back" in summary["reason"]


def test_a_peer_that_died_by_itself_is_not_taken_for_healed(
    cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No fault of the schedule took it away, and nobody brings it back: the run cannot say that all was well."""
    monkeypatch.setattr("scenarios.engine.run._HEAL_LIMIT", 0.5)
    monkeypatch.setattr(cluster, "heal", list)
    kill = cluster.kill

    def kill_two(peer: Any) -> None:
        kill(peer)
        kill(cluster.members["peer5" if peer.name != "peer5" else "peer4"].peer)

    monkeypatch.setattr(cluster, "kill", kill_two)
    summary, _ = run(cluster, tmp_path, "replication", victims="1", duration="0.3")
    assert summary["exit_code"] == 2
    assert "not back" in summary["reason"]
    assert "peer4" in summary["reason"] or "peer5" in summary["reason"]


def test_a_full_disk_ends_the_run_healed_and_without_a_verdict(
    cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be recorded cannot be judged; the peers are brought back all the same."""
    write = HistoryWriter._write

    def full(writer: HistoryWriter, record: dict[str, Any]) -> None:
        if record["r"] == "fault":
            writer._file.close()
            writer._file = Path("/dev/full").open("w", buffering=1)  # noqa: SIM115 - the writer closes it
        write(writer, record)

    monkeypatch.setattr(HistoryWriter, "_write", full)
    summary, folder = run(cluster, tmp_path, session="exponential:0.3", downtime="fixed:50", duration="30")
    assert summary["exit_code"] == 2
    assert cluster.verbs[-1] == "heal"
    assert all(member.state == "up" for member in cluster.members.values())
    assert load(folder / "history.jsonl").acknowledged()


def test_results_that_cannot_be_kept_are_refused_before_anything_is_touched(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    """A file is no folder."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"--results=.*Not a directory"):
        run(cluster, tmp_path / "file" / "results", k="2")
    assert cluster.verbs == []


def test_a_value_that_the_network_refuses_is_named(
    cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has to look for the reason in the history."""

    async def refuse(_member: object, _request: object) -> web.Response:
        return web.json_response({"error": "too long"}, status=413)

    monkeypatch.setattr(FakeCluster, "_put", lambda _self, member, request: refuse(member, request))
    with FakeCluster(3) as strict:
        summary, _ = run(strict, tmp_path)
    assert summary["exit_code"] == 2
    assert "413 too long" in summary["reason"]


def test_the_summary_says_that_the_checks_are_done(cluster: FakeCluster, tmp_path: Path) -> None:
    """A program that waits for the end can see it."""
    summary, _ = run(cluster, tmp_path, duration="0.2")
    assert summary["phase"] == "done"


def test_a_scenario_without_faults_or_checks_runs(cluster: FakeCluster, tmp_path: Path) -> None:
    """The engine tests itself with no-ops; nothing checked is nothing known."""
    idle = Scenario("idle", "nothing happens", "Nothing.", checks=())
    given = {**FAST, "duration": "0.3", "results": str(tmp_path)}
    summary, _ = run_scenario(idle, given, cluster, Quiet())  # type: ignore[arg-type]
    assert summary["verdict"] == "unknown"
    assert summary["operations"]["get"]["total"] > 0


def test_two_runs_in_one_second_get_folders_of_their_own(cluster: FakeCluster, tmp_path: Path) -> None:
    """No run overwrites another."""
    idle = Scenario("idle", "s", "d", checks=(), plan=lambda _setting: Plan())
    given = {**FAST, "duration": "0.05", "keys": "1", "results": str(tmp_path)}
    folders = {run_scenario(idle, given, cluster, Quiet())[1] for _ in range(3)}  # type: ignore[arg-type]
    assert len(folders) == 3


def test_the_command_in_the_results_repeats_the_run(cluster: FakeCluster, tmp_path: Path) -> None:
    """It holds every option that was given, and the seed."""
    summary, _ = run(cluster, tmp_path, duration="0.2", popularity="zipf:1")
    assert summary["command"].startswith("fab scenario.churn ")
    assert "--popularity=zipf:1" in summary["command"]
    assert "--seed=5" in summary["command"]
    assert "--results" not in summary["command"]


def test_the_scenario_of_the_documentation_runs(cluster: FakeCluster, tmp_path: Path) -> None:
    """What docs/scenarios.md shows as one's own scenario is a whole one."""
    page = (Path(__file__).parents[2] / "docs" / "scenarios.md").read_text()
    names: dict[str, Any] = {}
    exec(page.split("```python\n")[1].split("```")[0].replace("at=5", "at=0.2").replace("at=15", "at=0.5"), names)  # noqa: S102
    given = {**FAST, "duration": "0.8", "availability": "0.2", "results": str(tmp_path)}
    summary, _ = run_scenario(names["PAUSE"], given, cluster, Quiet())
    assert summary["verdict"] == "valid", summary["reason"]
    assert summary["faults"] == {"pause": 2}
    assert {verb.split()[0] for verb in cluster.verbs} == {"pause", "resume", "heal"}
