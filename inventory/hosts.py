#!/usr/bin/env python3
"""Dynamic inventory: expand topology.yml and the current testbed into Ansible's hosts.

Usage: hosts.py --list | hosts.py --host <name>
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
VENV_PYTHON = ROOT / ".venv" / "bin" / "python"
sys.path.insert(0, str(ROOT))
sys.dont_write_bytecode = True

try:
    from scenarios.errors import ScenariosError
    from scenarios.testbed import state, topology
except (ImportError, SyntaxError, TypeError):
    # Ansible starts this file with the system's Python, which may be old or lack PyYAML; the checkout's has it.
    if os.environ.get("TESTBED_INVENTORY_RETRIED") or not VENV_PYTHON.exists():
        sys.exit("inventory: this needs Python 3.11 with PyYAML; run `make venv`")
    os.environ["TESTBED_INVENTORY_RETRIED"] = "1"
    os.execv(VENV_PYTHON, [str(VENV_PYTHON), *sys.argv])  # noqa: S606 - no shell is wanted


def inventory() -> dict[str, Any]:
    """Return Ansible's view of the current testbed, or of the declaration where there is none."""
    folder = state.StateFolder.default()
    current = folder.read() or state.Current()
    declared = topology.load(state.TOPOLOGY_FILE, current.settings)
    hosts = topology.expand(declared)
    parameters = {
        "kademlia_ksize": declared.ksize,
        "kademlia_alpha": declared.alpha,
        "kademlia_profile": declared.profile,
        **current.variables,
    }
    hostvars: dict[str, dict[str, Any]] = {}
    for host in hosts:
        peers = [{key: value for key, value in asdict(peer).items() if key != "host"} for peer in host.peers]
        own = local_host(folder) if declared.provider == "local" else {"ansible_host": host.address}
        hostvars[host.name] = {"kademlia_peers": peers, **own, **parameters}
    kind = "provider_local" if declared.provider == "local" else "provider_vagrant"
    return {
        "_meta": {"hostvars": hostvars},
        "all": {"children": ["kademlia"]},
        "kademlia": {"children": [kind]},
        kind: {"hosts": list(hostvars)},
    }


def local_host(folder: state.StateFolder) -> dict[str, Any]:
    """Return the variables of this machine: all that a deployment writes stays in the state folder."""
    return {
        "kademlia_venv": str(folder.venv),
        "kademlia_config_dir": str(folder.config),
        "kademlia_data_dir": str(folder.data),
        "kademlia_log_dir": str(folder.logs),
        "kademlia_supervisor_dir": str(folder.supervisor),
        "kademlia_supervisor_socket": str(folder.socket),
    }


def main(arguments: list[str]) -> int:
    """Print what Ansible asked for; return the exit status."""
    if arguments == ["--list"]:
        answer = inventory
    elif len(arguments) == 2 and arguments[0] == "--host":

        def answer() -> dict[str, Any]:
            return dict(inventory()["_meta"]["hostvars"].get(arguments[1], {}))
    else:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        print(json.dumps(answer(), indent=2))
    except ScenariosError as error:
        print(f"inventory: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
