"""Keep the peers of a host alive by systemd, one instance of kademlia@.service for each."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.kademlia_supervisor import ManagerError

if TYPE_CHECKING:
    from collections.abc import Sequence

#: the template unit, which the role installs
UNIT = Path("/etc/systemd/system/kademlia@.service")


class Systemd:
    """The instances of kademlia@.service; the role has installed the template unit."""

    def __init__(self, params: dict[str, Any]) -> None:
        self.config_dir = Path(params["config_dir"])

    def started(self, deployments: dict[str, str], check: bool) -> tuple[list[str], list[str]]:
        """Have these peers running; return what was done, and the peers that run something older."""
        show = self._show(list(deployments))
        down = [name for name, (state, enabled, _) in show.items() if state != "active" or enabled != "enabled"]
        outdated = [
            name for name, (_, _, pid) in show.items() if name not in down and self._runs(pid) != deployments[name]
        ]
        if check:
            return [f"would start {name}" for name in down], outdated
        for name, deployment in deployments.items():
            # Read by the unit at each start, so that a process tells by its environment what it was started from.
            (self.config_dir / f"{name}.env").write_text(f"KADEMLIA_DEPLOYMENT={deployment}\n")
        if down:
            self._output("enable", "--now", *map(_unit, down))
        gone = sorted({path.stem for path in self.config_dir.glob("*.toml")} - set(deployments))
        if gone:
            self._output("disable", "--now", *map(_unit, gone))
        return [f"started {name}" for name in down] + [f"removed {name}" for name in gone], outdated

    def restart(self, names: Sequence[str]) -> None:
        """Stop these peers at once, in an orderly way, and start what is deployed now."""
        self._output("restart", *map(_unit, names))

    def removed(self, name: str) -> None:
        """Forget what `started` wrote for a peer that is gone."""
        (self.config_dir / f"{name}.env").unlink(missing_ok=True)

    def failed(self) -> dict[str, str]:
        """Return why the peers failed that systemd has given up."""
        units = self._output("list-units", "--state=failed", "--plain", "--no-legend", "kademlia@*.service")
        names = [line.split()[0].removeprefix("kademlia@").removesuffix(".service") for line in units.splitlines()]
        return dict.fromkeys(names, "systemd has given it up")

    def log_tail(self, name: str, lines: int = 8) -> str:
        """Return the end of a peer's journal."""
        command = ["journalctl", "--no-pager", "--output=cat", f"--lines={lines}", f"--unit={_unit(name)}"]
        return _run(*command).stdout.strip()

    def _show(self, names: list[str]) -> dict[str, tuple[str, str, str]]:
        """Return state, enablement and main process of each peer, by one call for all."""
        shown: dict[str, tuple[str, str, str]] = {}
        properties = "--property=Id,ActiveState,UnitFileState,MainPID"
        for block in self._output("show", properties, *map(_unit, names)).split("\n\n"):
            values = dict(line.split("=", 1) for line in block.strip().splitlines())
            name = values["Id"].removeprefix("kademlia@").removesuffix(".service")
            shown[name] = (values["ActiveState"], values["UnitFileState"], values["MainPID"])
        return shown

    def _runs(self, pid: str) -> str:
        """Return the deployment that a process was started from."""
        try:
            environment = Path("/proc", pid, "environ").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            return ""
        return next((e.partition("=")[2] for e in environment if e.startswith("KADEMLIA_DEPLOYMENT=")), "")

    def _output(self, *arguments: str) -> str:
        done = _run("systemctl", *arguments)
        if done.returncode:
            raise ManagerError(f"systemctl {arguments[0]} failed: {done.stderr.strip()[-500:]}")
        return done.stdout


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - no shell


def _unit(name: str) -> str:
    return f"kademlia@{name}.service"
