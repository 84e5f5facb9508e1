"""Run deploy.yml on a state folder, and import the role's modules."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[2]
ROLE = ROOT / "provisioning" / "roles" / "node"
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from scenarios.testbed.local import LocalProvider  # noqa: E402

if TYPE_CHECKING:
    from types import ModuleType

    from scenarios.testbed.state import StateFolder

SETTINGS = {"peers": 3, "first_address": "127.0.42.10", "udp_port": 18868, "http_port": 18480}


@dataclass(frozen=True)
class Run:
    """How a playbook went."""

    status: int
    output: str
    #: numbers of the recap: ok, changed, failed, skipped
    recap: dict[str, int]


@dataclass(frozen=True)
class Deployment:
    """A state folder, and playbooks run on it."""

    folder: StateFolder
    source: Path
    variables: dict[str, Any] = field(default_factory=dict)

    def play(self, *options: str, **variables: object) -> Run:
        """Run deploy.yml as a user does, with extra variables."""
        extra = json.dumps({"kademlia_source": str(self.source), **self.variables, **variables})
        done = subprocess.run(
            [sys.executable, "-m", "ansible", "playbook", "deploy.yml", "-e", extra, *options],
            cwd=ROOT,
            env={**os.environ, "TESTBED_STATE": str(self.folder.root), "ANSIBLE_NOCOLOR": "1"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        output = done.stdout + done.stderr
        counts = re.search(r"^local +: (.*)$", output, re.MULTILINE)
        recap = dict(re.findall(r"(\w+)=(\d+)", counts[1])) if counts else {}
        return Run(done.returncode, output, {name: int(number) for name, number in recap.items()})

    @property
    def provider(self) -> LocalProvider:
        """Return the provider of this folder."""
        return LocalProvider(self.folder)

    def pids(self) -> dict[str, int | None]:
        """Return the process of each peer."""
        return {name: state.pid for name, state in self.provider.states().items()}


def role_module(name: str) -> ModuleType:
    """Import one of the role's Ansible modules, which are no package."""
    spec = importlib.util.spec_from_file_location(name, ROLE / "library" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
