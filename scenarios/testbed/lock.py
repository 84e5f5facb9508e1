"""One run at a time may change or measure a testbed."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from scenarios.errors import TestbedBusy
from scenarios.testbed.model import LockOwner

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scenarios.testbed.state import StateFolder


@contextmanager
def hold(folder: StateFolder, command: str | None = None) -> Iterator[None]:
    """Hold the testbed; raises `TestbedBusy` naming the owner at once when another process holds it.

    The kernel drops the lock with its owner, however that one ends: a dead owner never blocks.
    """
    folder.create()
    descriptor = _locked(folder)
    try:
        owner = {
            "pid": os.getpid(),
            "command": command or " ".join(["fab", *sys.argv[1:]]),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(owner).encode(), 0)
        except OSError as error:
            # Held all the same; on a full disk `down` must work, and what needs room fails by itself.
            print(f"fab: {folder.lock_file}: {error.strerror}", file=sys.stderr)
        yield
    finally:
        os.close(descriptor)


def _locked(folder: StateFolder) -> int:
    while True:
        descriptor = os.open(folder.lock_file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # `down` deletes the file while it holds the lock: a lock on a deleted file is worth nothing.
            if os.fstat(descriptor).st_ino == folder.lock_file.stat().st_ino:
                return descriptor
            os.close(descriptor)
        except BlockingIOError:
            owner = _owner(descriptor)
            os.close(descriptor)
            raise TestbedBusy(
                f"the testbed {folder.root} is held by process {owner.pid} (`{owner.command}`, "
                f"since {owner.since}); wait for it, end it, or name another state folder with TESTBED_STATE"
            ) from None
        except FileNotFoundError:
            os.close(descriptor)
            folder.create()


def _owner(descriptor: int) -> LockOwner:
    """Read who holds the lock; the owner may be about to write it."""
    try:
        record = json.loads(os.pread(descriptor, 4096, 0))
        return LockOwner(pid=record["pid"], command=record["command"], since=record["since"])
    except (ValueError, KeyError, TypeError):
        return LockOwner(pid=0, command="unknown", since="just now")
