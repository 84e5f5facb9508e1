#!/usr/bin/python
"""Ansible module: build the node's wheel and gather those it needs, on the controller."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: kademlia_wheels
short_description: Build the node's wheel and gather the wheels it needs into one archive
description:
  - The dependencies of C(requirements.lock) are fetched once, with their hashes checked; afterwards no network is
    needed. The node is built again only when a source of it changed.
options:
  source: {type: path, required: true, description: Folder of the node, with pyproject.toml and requirements.lock.}
  cache: {type: path, required: true, description: Folder that keeps wheels and archives.}
author: the project
"""
RETURN = """
archive: {type: str, returned: always, description: Tar with the lock and all wheels.}
dependencies: {type: str, returned: always, description: Identifies the set of dependencies.}
node: {type: str, returned: always, description: Identifies the sources of the node.}
"""

LOCK = "requirements.lock"
#: seconds for which an archive is kept at least; an edit of the node makes a new one
KEEP = 86_400
#: left behind by builds, tests and editors: no part of the sources
NOT_SOURCE = shutil.ignore_patterns(
    "__pycache__", "*.egg-info", "build", "dist", "_trial_temp*", "dropin.cache", ".*", "*.log", "*.pid", LOCK
)


def sources(folder: str) -> list[Path]:
    """Return every source file below `folder`, sorted."""
    found: list[Path] = []
    for parent, folders, files in os.walk(folder):
        ignored = NOT_SOURCE(parent, [*folders, *files])
        folders[:] = [name for name in folders if name not in ignored]
        found += [Path(parent, name) for name in files if name not in ignored]
    return sorted(found)


def digest(*parts: bytes) -> str:
    """Return a short hash of `parts`."""
    total = hashlib.sha256()
    for part in parts:
        total.update(hashlib.sha256(part).digest())
    return total.hexdigest()[:16]


class PipFailed(Exception):
    """Pip failed; the message is the end of its output."""


def pip(*arguments: str) -> None:
    """Run this Python's pip; raises `PipFailed`."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    done = subprocess.run(  # noqa: S603 - no shell is involved
        command, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise PipFailed((done.stderr or done.stdout).strip()[-1500:])


def fetch_dependencies(lock: Path, target: Path) -> None:
    """Gather the wheels of `lock` in the folder `target`, which appears complete or not at all."""
    if target.exists():
        return
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        wheels = Path(scratch, "wheels")
        pip("download", "--no-deps", "--only-binary=:all:", "--require-hashes", "-r", str(lock), "-d", str(wheels))
        with contextlib.suppress(OSError):  # another run was quicker
            wheels.rename(target)


def build_node(source: str, target: Path) -> Path:
    """Build the node's wheel in the folder `target` from a copy, so that no stale build folder gets into it."""
    copy = target / "source"
    shutil.copytree(source, copy, ignore=NOT_SOURCE)
    pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(target), str(copy))
    return next(target.glob("*.whl"))


def bundle(source: str, lock: Path, dependencies: Path, archive: Path) -> None:
    """Write the archive: the lock, the dependencies, and the node's wheel under node/."""
    fetch_dependencies(lock, dependencies)
    with tempfile.TemporaryDirectory(dir=archive.parent) as scratch:
        wheel = build_node(source, Path(scratch))
        unfinished = Path(scratch, "archive")
        with tarfile.open(unfinished, "w") as tar:
            tar.add(lock, LOCK)
            for path in sorted(dependencies.iterdir()):
                tar.add(path, f"dependencies/{path.name}")
            tar.add(wheel, f"node/{wheel.name}")
        unfinished.replace(archive)
    for old in archive.parent.glob("*.tar"):
        if old.stat().st_mtime < time.time() - KEEP:
            old.unlink(missing_ok=True)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "source": {"type": "path", "required": True},
            "cache": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    source, cache = module.params["source"], Path(module.params["cache"])
    lock = Path(source, LOCK)
    if not Path(source, "pyproject.toml").is_file() or not lock.is_file():
        module.fail_json(msg=f"{source} is not the node: it has no pyproject.toml or no {LOCK}")
    dependencies = digest(lock.read_bytes(), sys.implementation.cache_tag.encode())
    node = digest(*(p for f in sources(source) for p in (str(f.relative_to(source)).encode(), f.read_bytes())))
    archive = cache / f"{dependencies}-{node}.tar"
    missing = not archive.exists()
    if missing and not module.check_mode:
        try:
            cache.mkdir(parents=True, exist_ok=True)
            bundle(source, lock, cache / f"dependencies-{dependencies}", archive)
        except PipFailed as error:
            module.fail_json(msg=f"cannot prepare the wheels of {source}: {error}")
    module.exit_json(changed=missing, archive=str(archive), dependencies=dependencies, node=node)


if __name__ == "__main__":
    main()
