"""One run at a time has the testbed, and a dead owner never keeps it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from scenarios.errors import TestbedBusy as Busy
from scenarios.testbed.lock import hold
from scenarios.testbed.state import ROOT, StateFolder

if TYPE_CHECKING:
    from pathlib import Path

HOLD = """
import sys, pathlib
from scenarios.testbed import lock, state
with lock.hold(state.StateFolder(pathlib.Path(sys.argv[1])), "fab scenario.churn"):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(folder: StateFolder) -> subprocess.Popen[str]:
    """Return a process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder.root)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_held_testbed_is_refused_naming_the_owner(tmp_path: Path) -> None:
    """Process, command and time stand in the error; a killed owner does not block the next."""
    folder = StateFolder(tmp_path / "state")
    process = holder(folder)
    with pytest.raises(Busy, match=rf"process {process.pid} \(`fab scenario.churn`, since 20"), hold(folder):
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    with hold(folder):
        assert folder.lock_file.exists()


def test_a_lock_on_a_folder_that_was_removed_meanwhile_is_taken_anew(tmp_path: Path) -> None:
    """`down` deletes the file it holds; whoever comes next locks a new file, not the deleted one."""
    folder = StateFolder(tmp_path / "state")
    with hold(folder):
        folder.lock_file.unlink()
    with hold(folder), pytest.raises(Busy), hold(folder):
        pass
