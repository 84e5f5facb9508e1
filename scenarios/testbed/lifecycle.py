"""Bring a testbed up, and take it down without a trace."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from scenarios.errors import TestbedError
from scenarios.testbed import ports, processes
from scenarios.testbed.deploy import deploy, end_deployment
from scenarios.testbed.providers import open_provider
from scenarios.testbed.settings import declaration
from scenarios.testbed.state import Current
from scenarios.testbed.topology import VAGRANT_PROVIDERS, on_one_address, topology

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from scenarios.testbed.model import Topology
    from scenarios.testbed.state import StateFolder


def up(
    folder: StateFolder, settings: Mapping[str, Any], progress: Callable[[str], None] | None = None
) -> Topology:
    """Deploy the current testbed with `settings` changed; what is not named stays as it is.  Idempotent.

    The caller holds the testbed.  Everything that can be refused is refused before anything is touched.
    """
    current = folder.read() or Current()
    if settings.get("provider", current.settings.get("provider")) != current.settings.get("provider"):
        current = replace(current, settings={})  # addresses and ports of one provider mean nothing to another
    current = replace(current, settings={**current.settings, **settings})
    declared = declaration(folder, current)
    provider = open_provider(folder, declared.provider)
    if "first_address" not in current.settings and not ports.address_exists(declared.first_address):
        declared = on_one_address(declared)
        moved = {"first_address": declared.first_address, "one_address": True}
        current = replace(current, settings={**current.settings, **moved})
    end_deployment(folder)
    running: list[str] = []
    if provider.supervisor.is_alive():
        running = [info["name"] for info in provider.supervisor.processes() if info["pid"]]
    else:
        processes.end_all(folder)
    wanted = topology(declared)
    ports.check_free(wanted.peers, ports.held_by(folder, running))
    deploy(folder, current, progress)
    return wanted


def down(folder: StateFolder) -> int:
    """End every process of the testbed and delete what it wrote; return how many processes there were.

    The caller holds the testbed.  Works from any state: it looks for processes, not for records of them.
    """
    end_deployment(folder)
    ended = processes.end_all(folder)
    # By name: should TESTBED_STATE name a folder that holds other things, these stay.
    for path in (folder.venv, folder.config, folder.data, folder.logs, folder.supervisor, folder.runtime):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
    for path in (folder.current_file, folder.deploy_log, folder.deploy_pid, folder.lock_file):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.root.rmdir()
    return ended


def machines_hint(folder: StateFolder) -> str:
    """Return what is left to do after `down` where the peers run on machines that `fab` did not make."""
    with contextlib.suppress(TestbedError):
        current = folder.read()
        if current and current.settings.get("provider") in VAGRANT_PROVIDERS:
            return "; the machines are Vagrant's: `vagrant destroy` removes them"
    return ""
