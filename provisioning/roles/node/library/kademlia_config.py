#!/usr/bin/python
"""Ansible module: write the configuration of every peer of a host in one go."""

from __future__ import annotations

import grp
import json
import os
import secrets
import shutil
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: kademlia_config
short_description: Write the configuration of every peer of a host in one go
description:
  - Writes C(<peer>.toml) for each peer and a control token where there is none. One task for all peers, because a
    hundred looped templates take a minute. Supports check and diff.
options:
  peers: {type: list, elements: dict, required: true, description: 'name, address, udp_port, http_port of each.'}
  settings: {type: dict, required: true, description: Settings of all peers; see SETTINGS.}
  overrides: {type: dict, default: {}, description: Settings of single peers by name.}
  bootstrap: {type: list, elements: str, default: [], description: 'Peers to join by, address:port.'}
  config_dir: {type: path, required: true, description: Where the files go.}
  data_dir: {type: path, required: true, description: Where each peer gets a folder of its own.}
  control: {type: bool, default: true, description: Whether there is a control token.}
  owner: {type: str, description: User that runs the peers; default the present one.}
author: the project
"""
RETURN = """
changed_peers: {type: list, returned: always, description: Peers whose configuration is new or different.}
moved: {type: bool, returned: always, description: 'Whether a peer changed its address or UDP port.'}
"""

HEADER = "# Written by Ansible; changes made here are lost at the next deployment.\n"
CONTROL_FILE = "control.token"
#: where each setting belongs in the file
SETTINGS = {
    "ksize": ("node", "ksize"),
    "alpha": ("node", "alpha"),
    "profile": ("node", "profile"),
    "node_id": ("node", "id"),
    "intervals": ("intervals", None),
    "storage": ("storage", "kind"),
    "max_keys": ("storage", "max_keys"),
    "max_bytes": ("storage", "max_bytes"),
    "max_value": ("storage", "max_value"),
    "log_level": ("log", "level"),
}


def toml_value(value: Any) -> str:
    """Return a value in TOML; JSON's strings, numbers, booleans and lists of these are TOML's, too."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def toml(document: dict[str, dict[str, Any]]) -> str:
    """Return a document of tables that hold plain values."""
    lines = [HEADER.rstrip()]
    for table, entries in document.items():
        if entries:
            lines += ["", f"[{table}]", *(f"{key} = {toml_value(value)}" for key, value in entries.items())]
    return "\n".join(lines) + "\n"


def peer_document(params: dict[str, Any], peer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the configuration of one peer as tables."""
    config_dir, name = Path(params["config_dir"]), peer["name"]
    document: dict[str, dict[str, Any]] = {
        "node": {
            "address": peer["address"],
            "port": int(peer["udp_port"]),
            "bootstrap": params["bootstrap"],
            "data_dir": str(Path(params["data_dir"], name)),
        },
        "intervals": {},
        "http": {"address": peer["address"], "port": int(peer["http_port"])},
        "storage": {},
        "control": {"token_file": str(config_dir / CONTROL_FILE)} if params["control"] else {},
        "log": {},
    }
    for setting, value in {**params["settings"], **(params["overrides"].get(name) or {})}.items():
        table, key = SETTINGS[setting]
        document[table].update(value if key is None else {key: value})
    return document


def place(text: str) -> tuple[Any, Any] | None:
    """Return address and UDP port of a configuration file's text; None where there is none yet."""
    try:
        node = tomllib.loads(text)["node"]
        return node["address"], node["port"]
    except (ValueError, KeyError):
        return None


def check_names(params: dict[str, Any]) -> str | None:
    """Return what is wrong with the names of peers and settings, or None."""
    unknown = sorted(set(params["settings"]) - set(SETTINGS))
    for name, settings in params["overrides"].items():
        if not isinstance(settings, dict):
            return f"the overrides of {name} must be a mapping such as {{alpha: 4}}"
        unknown += sorted(set(settings) - set(SETTINGS))
    if unknown:
        return f"unknown setting {unknown[0]!r}; known: {', '.join(SETTINGS)}"
    return None


def write(path: Path, text: str, mode: int, group: int) -> None:
    """Replace a file, all or nothing; nobody but owner and group ever has access."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as new:
            os.fchown(descriptor, -1, group)
            os.fchmod(descriptor, mode)
            new.write(text)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def prepare_folders(params: dict[str, Any], group: int) -> bool:
    """Make the folders of the host and of each peer; return whether any was missing."""
    config_dir, data_dir = Path(params["config_dir"]), Path(params["data_dir"])
    folders = [config_dir, data_dir, *(data_dir / peer["name"] for peer in params["peers"])]
    missing = [folder for folder in folders if not folder.is_dir()]
    for folder in missing:
        folder.mkdir(mode=0o750 if params["owner"] else 0o700, parents=True)
        if params["owner"]:
            shutil.chown(folder, None if folder == config_dir else params["owner"], group)
    return bool(missing)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "peers": {"type": "list", "elements": "dict", "required": True},
            "settings": {"type": "dict", "required": True},
            "overrides": {"type": "dict", "default": {}},
            "bootstrap": {"type": "list", "elements": "str", "default": []},
            "config_dir": {"type": "path", "required": True},
            "data_dir": {"type": "path", "required": True},
            "control": {"type": "bool", "default": True, "no_log": False},
            "owner": {"type": "str"},
        },
        supports_check_mode=True,
    )
    params = module.params
    problem = check_names(params)
    if problem:
        module.fail_json(msg=problem)
    config_dir = Path(params["config_dir"])
    texts = {peer["name"]: toml(peer_document(params, peer)) for peer in params["peers"]}
    before = {n: p.read_text() if (p := config_dir / f"{n}.toml").exists() else "" for n in texts}
    changed = [name for name, text in texts.items() if before[name] != text]
    token_missing = params["control"] and not (config_dir / CONTROL_FILE).exists()
    folders_missing = not config_dir.is_dir()
    if not module.check_mode:
        owner = params["owner"]
        # The peers' user may read its configuration, and may not change it.
        group = grp.getgrnam(owner).gr_gid if owner else -1
        mode = 0o640 if owner else 0o600
        folders_missing = prepare_folders(params, group)
        for name in changed:
            write(config_dir / f"{name}.toml", texts[name], mode, group)
        if token_missing:
            write(config_dir / CONTROL_FILE, secrets.token_hex(32) + "\n", mode, group)
    module.exit_json(
        changed=bool(changed or token_missing or folders_missing),
        changed_peers=changed,
        moved=any(place(before[name]) not in (None, place(texts[name])) for name in changed),
        diff=[
            {"before": before[n], "after": texts[n], "before_header": f"{n}.toml", "after_header": f"{n}.toml"}
            for n in changed
        ],
    )


if __name__ == "__main__":
    main()
