"""Run `deploy.yml` for the testbed of a state folder, and know how it went."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from scenarios.errors import TestbedError
from scenarios.testbed import processes
from scenarios.testbed.state import ROOT, write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable

    from scenarios.testbed.state import Current, StateFolder

#: characters of a failure's message that still make a readable line
MESSAGE = 900


def deploy(folder: StateFolder, current: Current, progress: Callable[[str], None] | None = None) -> None:
    """Make `current` the current testbed and deploy it; `progress` is told the name of each task.

    Raises `TestbedError` with the failed task's message.  The record says that the testbed is incomplete until the
    deployment has ended well, so that whatever happens in between is seen by the next command.
    """
    folder.write(replace(current, complete=False))
    reading, writing = os.pipe()
    environment = {
        **os.environ,
        "TESTBED_STATE": str(folder.root),
        "TESTBED_EVENTS_FD": str(writing),
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_CALLBACKS_ENABLED": "testbed_events",
        "ANSIBLE_NOCOLOR": "1",
        "PYTHONUNBUFFERED": "1",
    }
    with folder.deploy_log.open("w", encoding="utf-8") as log, os.fdopen(reading, encoding="utf-8") as events:
        run = subprocess.Popen(  # noqa: S603 - no shell, and every argument is ours
            [sys.executable, "-m", "ansible", "playbook", str(ROOT / "deploy.yml")],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=[writing],
            start_new_session=True,  # a group of its own, so that it can be ended with all that it started
        )
        os.close(writing)
        try:
            record = {"pid": run.pid, "start_ticks": processes.start_ticks(run.pid)}
            write_atomically(folder.deploy_pid, json.dumps(record))
            failure = _follow(events, progress)
            status = run.wait()
        finally:
            _end_group(run)
            folder.deploy_pid.unlink(missing_ok=True)
    if status:
        raise TestbedError(f"{failure or _last_words(folder)}  [all of Ansible's output: {folder.deploy_log}]")
    folder.write(replace(current, complete=True))


def end_deployment(folder: StateFolder) -> bool:
    """End a deployment whose `fab` was killed; return whether there was one.  The caller holds the testbed."""
    try:
        record = json.loads(folder.deploy_pid.read_text(encoding="utf-8"))
        pid, ticks = int(record["pid"]), record["start_ticks"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    folder.deploy_pid.unlink(missing_ok=True)
    if ticks is None or processes.start_ticks(pid) != ticks:
        return False
    with processes.opened(pid) as process, contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
        if process is not None:
            processes.has_ended(process, 5)
    return True


def _follow(events: Any, progress: Callable[[str], None] | None) -> str:
    """Read what the callback plugin tells until the deployment ends; return the first failure, or nothing."""
    failure = ""
    for line in events:
        with contextlib.suppress(ValueError, KeyError):
            event = json.loads(line)
            if event["event"] == "task" and progress is not None:
                progress(event["name"])
            elif event["event"] == "failed" and not failure:
                message = " ".join(event["message"].split())
                shown = message if len(message) <= MESSAGE else f"{message[:MESSAGE]} …"
                failure = f"deployment failed on {event['host']}: {shown}"
    return failure


def _end_group(run: subprocess.Popen[bytes]) -> None:
    """End Ansible and its workers, where an exception (Ctrl-C) left them running."""
    if run.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGTERM)
        try:
            run.wait(5)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)
            run.wait()


def _last_words(folder: StateFolder) -> str:
    """Return the last error in Ansible's output: it stopped before any task could fail."""
    lines = folder.deploy_log.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line for line in lines if "ERROR" in line] or [line for line in lines if line.strip()][-1:]
    return f"deployment did not start: {errors[0] if errors else 'Ansible said nothing'}"
