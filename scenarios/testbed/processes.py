"""Find and signal the processes of one state folder, each verified by its command line, never by a name.

Uses /proc and pidfds (Linux): between looking at a process and signalling it, its number cannot become another's.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from scenarios.errors import TestbedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scenarios.testbed.state import StateFolder


def arguments(pid: int) -> list[str]:
    """Return a process's command line; empty when it is gone or a zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="surrogateescape").split("\0")[:-1]
    except OSError:
        return []


def is_stopped(pid: int) -> bool:
    """Return whether a process is stopped by SIGSTOP."""
    try:
        # The name of the program stands in parentheses and may hold anything; the state follows the last one.
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] in ("T", "t")
    except OSError:
        return False


def start_ticks(pid: int) -> int | None:
    """Return when a process started, in clock ticks after boot; with its number, this identifies it."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
    except OSError:
        return None


@contextmanager
def opened(pid: int) -> Iterator[int | None]:
    """Hold a process by a pidfd; None when it is gone."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def has_ended(pidfd: int, timeout: float) -> bool:
    """Wait at most `timeout` seconds for the end of a process."""
    return bool(select.select([pidfd], [], [], timeout)[0])


def _is_peer(command: list[str], folder: StateFolder) -> bool:
    if "--config" not in command[:-1]:
        return False
    config = Path(command[command.index("--config") + 1])
    return config.parent == folder.config and config.suffix == ".toml"


def _is_supervisor(command: list[str], folder: StateFolder) -> bool:
    return str(folder.supervisor_conf) in command


def _own_processes() -> list[int]:
    user = os.getuid()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if entry.stat().st_uid == user:
                found.append(int(entry.name))
    return found


def belonging(folder: StateFolder) -> list[int]:
    """Return the processes of this state folder: its supervisord first, then its peers."""
    commands = {pid: arguments(pid) for pid in _own_processes() if pid != os.getpid()}
    supervisors = [pid for pid, command in commands.items() if _is_supervisor(command, folder)]
    return supervisors + [pid for pid, command in commands.items() if _is_peer(command, folder)]


def end_all(folder: StateFolder) -> int:
    """SIGKILL every process of this state folder and wait for the end; return how many there were.

    supervisord goes first, so that it starts nothing again.
    """
    ended = 0
    deadline = time.monotonic() + 10
    while pids := belonging(folder):
        if time.monotonic() > deadline:
            raise TestbedError(f"processes {', '.join(map(str, pids))} of {folder.root} do not end")
        for pid in pids:
            with opened(pid) as process:
                command = arguments(pid)
                if process is not None and (_is_supervisor(command, folder) or _is_peer(command, folder)):
                    signal.pidfd_send_signal(process, signal.SIGKILL)
                    ended += has_ended(process, 5)
    return ended


def signal_peer(pid: int, folder: StateFolder, number: signal.Signals) -> None:
    """Send a signal to a peer's process; no effect when it is gone."""
    with opened(pid) as process:
        if process is not None and _is_peer(arguments(pid), folder):
            signal.pidfd_send_signal(process, number)
