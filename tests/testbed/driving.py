"""Run `fab testbed.*` on a state folder, and wait for what it brings about."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from scenarios.testbed.local import LocalProvider  # noqa: E402
from scenarios.testbed.observe import wait_until_joined  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

    from scenarios.testbed.state import StateFolder

PLACES = ("--first-address=127.0.40.10", "--udp-port=18468", "--http-port=18080")


def eventually(condition: Callable[[], Any], timeout: float = 20.0) -> Any:
    """Return the first true value of `condition`, asked again and again; fails after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, "the awaited condition did not come true"
        time.sleep(0.02)
    return value


@dataclass(frozen=True)
class Testbed:
    """A state folder, and `fab` run on it."""

    __test__ = False
    folder: StateFolder

    @property
    def environment(self) -> dict[str, str]:
        """Return what makes commands work on this folder."""
        return {**os.environ, "TESTBED_STATE": str(self.folder.root)}

    def command(self, *arguments: str) -> list[str]:
        """Return `fab testbed.…` as a command; the testbed's tasks only, so that nothing else can break it."""
        return [
            sys.executable,
            "-m",
            "fabric",
            "-r",
            str(Path(__file__).parent),
            "-c",
            "fabfile_testbed",
            *arguments,
        ]

    def fab(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `fab` to its end."""
        return subprocess.run(
            self.command(*arguments),
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `fab` and return it."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def provider(self) -> LocalProvider:
        """Return the provider of this folder."""
        return LocalProvider(self.folder)

    def pids(self) -> dict[str, int | None]:
        """Return the process of each peer."""
        return {name: state.pid for name, state in self.provider.states().items()}

    def healed(self) -> None:
        """Bring everything back, so that the next test finds a whole testbed."""
        self.provider.heal()
        assert wait_until_joined(self.provider.topology().peers, 30) == []

    def status(self) -> list[dict[str, Any]]:
        """Return what `fab testbed.status --json` says of each peer."""
        return list(json.loads(self.fab("testbed.status", "--json").stdout)["peers"])
