#!/usr/bin/python
"""Ansible module: keep the peers of a host running what is deployed, and wait until they have joined."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.kademlia_health import complaint, wait_until_joined
from ansible.module_utils.kademlia_supervisor import ManagerError, Supervisor
from ansible.module_utils.kademlia_systemd import UNIT, Systemd

DOCUMENTATION = """
module: kademlia_service
short_description: Keep the peers of a host running what is deployed
description:
  - C(started) starts what is down, all at once, and stops and deletes peers that are no longer declared; it
    returns the running peers that were started from an older configuration or an older node.
  - C(restarted) restarts the peers named in I(names) one after the other, each awaited before the next.
  - C(joined) waits until every peer has joined the network.
options:
  state: {type: str, choices: [started, restarted, joined], required: true, description: See above.}
  manager: {type: str, choices: [systemd, supervisor], required: true, description: What keeps the peers alive.}
  peers: {type: list, elements: dict, required: true, description: 'name, address, udp_port, http_port of each.'}
  names: {type: list, elements: str, default: [], description: Peers to restart.}
  together: {type: bool, default: false, description: Restart at once and do not wait; for peers that moved.}
  venv: {type: path, required: true, description: The peers' virtual environment.}
  config_dir: {type: path, required: true, description: The peers' configuration.}
  data_dir: {type: path, required: true, description: The peers' stores.}
  log_dir: {type: path, required: true, description: The peers' logs (supervisor only).}
  supervisor_dir: {type: path, required: true, description: supervisord's files (supervisor only).}
  supervisor_socket: {type: path, required: true, description: supervisord's socket (supervisor only).}
  stop_timeout: {type: int, required: true, description: Seconds for an orderly stop.}
  join_timeout: {type: int, required: true, description: Seconds to join the network.}
author: the project
"""
RETURN = """
actions: {type: list, returned: always, description: A sentence for each thing done.}
outdated: {type: list, returned: when started, description: Running peers that need a restart.}
"""


def deployment(params: dict[str, Any], name: str) -> str:
    """Return what identifies all that a peer is started from: its configuration, the installed node, its unit."""
    total = hashlib.sha256()
    paths = [Path(params["config_dir"], f"{name}.toml"), Path(params["venv"], "installed.json")]
    if params["manager"] == "systemd":
        paths.append(UNIT)
    for path in paths:
        total.update(path.read_bytes() if path.exists() else b"")
        total.update(b"\0")
    return total.hexdigest()[:16]


def start(params: dict[str, Any], manager: Supervisor | Systemd, check: bool) -> dict[str, Any]:
    """Have the declared peers running and no others."""
    config_dir = Path(params["config_dir"])
    names = [peer["name"] for peer in params["peers"]]
    actions, outdated = manager.started({name: deployment(params, name) for name in names}, check)
    for gone in sorted({path.stem for path in config_dir.glob("*.toml")} - set(names)):
        if not check:
            manager.removed(gone)
            shutil.rmtree(Path(params["data_dir"], gone), ignore_errors=True)
            (config_dir / f"{gone}.toml").unlink()
        actions.append(f"{'would delete' if check else 'deleted'} {gone}")
    return {"actions": actions, "outdated": outdated, "changed": bool(actions)}


def restart(module: AnsibleModule, manager: Supervisor | Systemd) -> dict[str, Any]:
    """Restart the named peers; fails at the first that does not join again, so that the others stay up."""
    names = module.params["names"]
    peers = [peer for peer in module.params["peers"] if peer["name"] in names]
    if module.check_mode:
        pass
    elif module.params["together"]:
        # Peers that moved find nobody to join by until all have moved.
        manager.restart(names)
    else:
        for peer in peers:
            manager.restart([peer["name"]])
            join(module, manager, [peer])
    return {"actions": [f"restarted {name}" for name in names], "changed": bool(names)}


def join(module: AnsibleModule, manager: Supervisor | Systemd, peers: list[dict[str, Any]]) -> None:
    """Wait until `peers` have joined; fails naming those that have not."""
    unjoined = wait_until_joined(peers, module.params["join_timeout"], manager.failed)
    if unjoined:
        module.fail_json(msg=complaint(unjoined, peers, manager.log_tail))


def main() -> None:
    """Run the module."""
    paths = ("venv", "config_dir", "data_dir", "log_dir", "supervisor_dir", "supervisor_socket")
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "required": True, "choices": ["started", "restarted", "joined"]},
            "manager": {"type": "str", "required": True, "choices": ["systemd", "supervisor"]},
            "peers": {"type": "list", "elements": "dict", "required": True},
            "names": {"type": "list", "elements": "str", "default": []},
            "together": {"type": "bool", "default": False},
            **{name: {"type": "path", "required": True} for name in paths},
            "stop_timeout": {"type": "int", "required": True},
            "join_timeout": {"type": "int", "required": True},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        manager = Supervisor(params) if params["manager"] == "supervisor" else Systemd(params)
        if params["state"] == "started":
            result = start(params, manager, module.check_mode)
        elif params["state"] == "restarted":
            result = restart(module, manager)
        else:
            if not module.check_mode:
                join(module, manager, params["peers"])
            result = {"changed": False}
    except ManagerError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
