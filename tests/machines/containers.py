"""Vagrant and Ansible as a person uses them, on containers in a network that has no way out."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
ISOLATED = Path(__file__).with_name("isolated")
BOX = ROOT / "provisioning" / "box"
#: what a person's checkout has of this one
KIT = ("Vagrantfile", "ansible.cfg", "deploy.yml", "fabfile.py", "inventory", "provisioning", "scenarios", "node")
#: the longest that all commands of a test run may take together, in seconds
WHOLE = 1800


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    status: int
    output: str

    def recap(self) -> dict[str, dict[str, int]]:
        """Return Ansible's recap: host, then ok, changed, failed, unreachable."""
        hosts = re.findall(r"^(\w+) +: (ok=.*)$", self.output, re.MULTILINE)
        return {host: {k: int(n) for k, n in re.findall(r"(\w+)=(\d+)", counts)} for host, counts in hosts}


class Containers:
    """A copy of the checkout, a Vagrant home and a closed namespace."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.kit = scratch / "kit"
        self.hold = scratch / "namespace.pid"
        # Short: the path of a socket has at most 107 bytes.
        self.sockets = Path(tempfile.mkdtemp(prefix="ssh-"))
        self.environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")} | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "VAGRANT_HOME": str(scratch / "vagrant"),
            "VAGRANT_CHECKPOINT_DISABLE": "1",
            "VAGRANT_NO_COLOR": "1",
            "ANSIBLE_NOCOLOR": "1",
            # A socket is of the file system, not of the network: it could lead to somebody else.
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self.sockets),
        }
        for name in ("TESTBED_STATE", "LXC_BRIDGE", "NO_DEPLOY", "ANSIBLE_CONFIG"):
            self.environment.pop(name, None)
        self.wrapper: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Do what needs the internet, or its cache: the box, the wheels.  Then close the door."""
        for name in KIT:
            source, target = ROOT / name, self.kit / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "_trial_temp*"))
            else:
                self.kit.mkdir(exist_ok=True)
                shutil.copy2(source, target)
        (self.kit / ".venv").symlink_to(sys.prefix)
        (self.kit / ".cache").symlink_to(ROOT / ".cache")
        self.outside(str(BOX / "build-lxc"), timeout=1200)
        wheels = json.dumps({"source": str(self.kit / "node"), "cache": str(self.kit / ".cache" / "wheelhouse")})
        python = f"ansible_python_interpreter={sys.executable}"
        library = str(self.kit / "provisioning" / "roles" / "node" / "library")
        fetch = ["-m", "ansible", "adhoc", "localhost", "-i", "localhost,", "-c", "local", "-M", library]
        self.outside(sys.executable, *fetch, "-m", "kademlia_wheels", "-a", wheels, "-e", python, timeout=300)
        # Should the tests be killed, the wrapper is told so, and cleans up.
        told = ["setpriv", "--pdeathsig", "SIGTERM", "--"]
        self.wrapper = subprocess.Popen(
            [*told, str(ISOLATED), "--hold", str(self.hold), "--timeout", str(WHOLE)], stdin=subprocess.DEVNULL
        )
        wait_for(self.hold.exists, 20, "the namespace")

    def outside(self, *command: str, timeout: float) -> Done:
        """Run a command on this machine; it must end well."""
        done = subprocess.run(
            command,
            cwd=self.kit,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return Done(done.returncode, done.stdout)

    def run(self, *command: str, timeout: float = 60) -> Done:
        """Run a command of the checkout in the namespace."""
        # `timeout` ends what runs inside; ending what entered would not.
        inside = ["timeout", "--kill-after=5", str(timeout), *command]
        done = subprocess.run(
            [str(ISOLATED), "--enter", str(self.hold), *inside],
            cwd=self.kit,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout + 15,
            check=False,
        )
        return Done(done.returncode, done.stdout + done.stderr)

    def ok(self, *command: str, timeout: float = 60) -> str:
        """Run a command in the namespace, which must end well; return its output."""
        done = self.run(*command, timeout=timeout)
        assert done.status == 0, f"{' '.join(command)}: status {done.status}\n{done.output}"
        return done.output

    def shell(self, machine: str, command: str) -> str:
        """Run a shell command on a machine as Vagrant's user."""
        return self.ok("vagrant", "ssh", machine, "-c", command).strip()

    def get(self, address: str, path: str) -> Any:
        """Return what a peer answers, in JSON."""
        return json.loads(self.ok("curl", "-sSf", "-m", "10", f"http://{address}:8080{path}"))

    def joined(self, address: str) -> bool:
        """Return whether a peer answers that it has joined."""
        done = self.run("curl", "-sS", "-m", "3", f"http://{address}:8080/status")
        return done.status == 0 and '"state":"joined"' in done.output

    def close(self) -> None:
        """End everything, whatever state it is in."""
        if self.wrapper is not None:
            self.wrapper.terminate()
            try:
                self.wrapper.wait(30)
            except subprocess.TimeoutExpired:
                self.wrapper.kill()
                self.wrapper.wait()
        shutil.rmtree(self.sockets, ignore_errors=True)
        shutil.rmtree(self.scratch, ignore_errors=True)


def wait_for(condition: Callable[[], bool], timeout: float, what: str) -> None:
    """Wait until `condition` holds; fails after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {timeout} s"
        time.sleep(0.2)


def inhabitants(namespace: int) -> list[str]:
    """Return the processes of this machine that are in a network namespace."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "ns" / "net").stat().st_ino == namespace:
                found.append(f"{folder.name} {(folder / 'comm').read_text().strip()}")
        except OSError:
            continue
    return found
