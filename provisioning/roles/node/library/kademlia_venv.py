#!/usr/bin/python
"""Ansible module: install the node into a virtual environment, without network."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: kademlia_venv
short_description: Install the node into a virtual environment, without network
description:
  - New dependencies make a new environment; a new node alone is installed over the old one. Otherwise nothing is
    done.
options:
  path: {type: path, required: true, description: The virtual environment.}
  python: {type: str, required: true, description: Python 3.11 or later to make it from.}
  archive: {type: path, required: true, description: Archive made by M(kademlia_wheels), on this host.}
  dependencies: {type: str, required: true, description: Identifies the set of dependencies in the archive.}
  node: {type: str, required: true, description: Identifies the node in the archive.}
author: the project
"""

#: what is installed; its text is part of what tells a peer that runs old code from one that runs the present code
MARKER = "installed.json"
#: Twisted caches the list of its plugins; a hundred peers that start at once must find the cache made
FILL_PLUGIN_CACHE = "from twisted.plugin import IPlugin, getPlugins; list(getPlugins(IPlugin))"


def run(module: AnsibleModule, command: list[str], what: str) -> None:
    """Run a command or fail with one line that says what was attempted."""
    try:
        done = subprocess.run(  # noqa: S603 - no shell is involved
            command, capture_output=True, text=True, check=False
        )
    except OSError as error:
        module.fail_json(msg=f"cannot {what}: {command[0]}: {error.strerror}")
    if done.returncode:
        module.fail_json(msg=f"cannot {what}: {(done.stderr or done.stdout).strip()[-1500:]}")


def make_environment(module: AnsibleModule, path: Path, unpacked: Path) -> None:
    """Make the environment anew with all dependencies."""
    python = module.params["python"]
    run(module, [python, "-c", "import sys; assert sys.version_info >= (3, 11), sys.version"], f"use {python}")
    run(
        module,
        [python, "-m", "venv", "--clear", str(path)],
        "make the virtual environment (python3-venv missing?)",
    )
    run(
        module,
        [
            *(
                str(path / "bin/python"),
                "-m",
                "pip",
                "--disable-pip-version-check",
                "install",
                "--no-index",
                "--no-deps",
            ),
            *("--require-hashes", "--find-links", str(unpacked / "dependencies")),
            *("-r", str(unpacked / "requirements.lock")),
        ],
        "install the dependencies",
    )


def install_node(module: AnsibleModule, path: Path, unpacked: Path) -> None:
    """Install the node's wheel over whatever version is there."""
    wheel = next((unpacked / "node").glob("*.whl"))
    python = str(path / "bin/python")
    install = ["install", "--no-index", "--no-deps", "--force-reinstall", str(wheel)]
    run(module, [python, "-m", "pip", "--disable-pip-version-check", *install], "install the node")
    run(module, [python, "-c", FILL_PLUGIN_CACHE], "list Twisted's plugins")


def remove_older_archives(archive: Path, path: Path) -> None:
    """Keep only the present archive among the copies beside the environment (not in the controller's cache)."""
    if archive.parent == path.parent:
        for older in set(archive.parent.glob("*.tar")) - {archive}:
            older.unlink()


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "python": {"type": "str", "required": True},
            "archive": {"type": "path", "required": True},
            "dependencies": {"type": "str", "required": True},
            "node": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    path = Path(module.params["path"])
    wanted = {name: module.params[name] for name in ("dependencies", "node")}
    marker = path / MARKER
    try:
        installed = json.loads(marker.read_text())
    except (OSError, ValueError):
        installed = {}
    if installed == wanted or module.check_mode:
        module.exit_json(changed=installed != wanted)
    # An interrupted installation must not pass for a complete one.
    marker.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    unpacked = Path(tempfile.mkdtemp(dir=module.tmpdir))
    try:
        with tarfile.open(module.params["archive"]) as tar:
            # Debian 12 has Python 3.11.2, which knows no filter yet; the archive is the controller's own.
            tar.extraction_filter = getattr(tarfile, "data_filter", lambda member, _path: member)
            tar.extractall(unpacked)  # noqa: S202
        if installed.get("dependencies") != wanted["dependencies"]:
            make_environment(module, path, unpacked)
        install_node(module, path, unpacked)
        marker.write_text(json.dumps(wanted))
        remove_older_archives(Path(module.params["archive"]), path)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    module.exit_json(changed=True)


if __name__ == "__main__":
    main()
