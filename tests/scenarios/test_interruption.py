"""A controller that is interrupted heals; one that is killed leaves results that can be read."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scenarios.history import load
from scenarios.report import write_results

HERE = Path(__file__).parent
#: runs a churn of a fake cluster and prints the verbs that its provider saw
PROGRAM = """
import sys
sys.path[:0] = [{root!r}, {here!r}]
from fake import FakeCluster
from scenarios.engine.display import Lines
from scenarios.engine.start import run_scenario
from scenarios.library import SCENARIOS
given = dict(duration="60", keys="20", rate="50", session="exponential:2", downtime="fixed:50", seed="1",
             results={results!r})
with FakeCluster(5, subnet="127.0.52") as cluster:
    if {slow}:
        heal, threads = cluster.heal, __import__("threading")
        def slow_heal():
            print("HEALING", flush=True)
            threads.Event().wait(1.0)
            return heal()
        cluster.heal = slow_heal
    summary, folder = run_scenario(SCENARIOS["churn"], given, cluster, Lines(0.2))
    print("STATES", sorted(m.state for m in cluster.members.values()), flush=True)
    print("VERDICT", summary["verdict"], summary["reason"], flush=True)
sys.exit(summary["exit_code"])
"""


def start(results: Path, *, slow: bool = False) -> subprocess.Popen[str]:
    program = PROGRAM.format(root=str(HERE.parents[1]), here=str(HERE), results=str(results), slow=slow)
    return subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for(process: subprocess.Popen[str], pattern: str) -> str:
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if re.search(pattern, line):
            return seen
    raise AssertionError(f"{pattern!r} never came:\n{seen}")


def the_run(results: Path) -> Path:
    (folder,) = (results / "churn").iterdir()
    return folder


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_mid_run_heals_everything_and_is_unknown(number: signal.Signals, tmp_path: Path) -> None:
    """Peers that were killed are up again, and the report says why there is no verdict."""
    process = start(tmp_path)
    wait_for(process, r"workload.*killed")
    process.send_signal(number)
    output, _ = process.communicate(timeout=20)
    assert "STATES ['up', 'up', 'up', 'up', 'up']" in output, output
    assert process.returncode == 2
    summary = json.loads((the_run(tmp_path) / "summary.json").read_text())
    assert (summary["verdict"], summary["reason"]) == ("unknown", f"interrupted by {number.name}")
    assert {check["check"] for check in summary["checks"]} == {"durability", "availability", "replication"}


def test_a_second_ctrl_c_does_not_stop_the_healing(tmp_path: Path) -> None:
    """It is told that healing goes on, and what to do if it is given up."""
    process = start(tmp_path, slow=True)
    wait_for(process, r"workload.*killed")
    process.send_signal(signal.SIGINT)
    wait_for(process, "HEALING")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=20)
    assert "fab testbed.heal" in output
    assert "STATES ['up', 'up', 'up', 'up', 'up']" in output, output
    assert process.returncode == 2


def test_a_third_ctrl_c_gives_up_and_says_what_to_run(tmp_path: Path) -> None:
    """Nobody is kept prisoner."""
    process = start(tmp_path, slow=True)
    wait_for(process, r"workload.*killed")
    process.send_signal(signal.SIGINT)
    wait_for(process, "HEALING")
    process.send_signal(signal.SIGINT)
    wait_for(process, "still healing")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=20)
    assert "given up: run `fab testbed.heal`" in output
    assert process.returncode == 2


def test_sigkill_leaves_results_that_can_be_read(tmp_path: Path) -> None:
    """Summary and report of the phases that ended, and a history from which both can be made again."""
    process = start(tmp_path)
    wait_for(process, r"workload.*killed")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=20)
    folder = the_run(tmp_path)
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["verdict"], summary["finished"], summary["phase"]) == ("unknown", False, "workload")
    assert "Not finished" in (folder / "report.html").read_text()
    history = load(folder / "history.jsonl")
    assert len(history.acknowledged()) >= 20
    assert any(fault.fault == "kill" for fault in history.faults)
    again = write_results(folder)
    assert again["exit_code"] == 2
    assert again["phase"] == "workload"
    assert again["operations"]["get"]["total"] > 0
