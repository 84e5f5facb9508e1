"""Talk to the supervisord of a state folder over its Unix socket."""

from __future__ import annotations

import subprocess
import sys
import time
import xmlrpc.client
from typing import TYPE_CHECKING, Any

from supervisor.xmlrpc import SupervisorTransport

from scenarios.errors import TestbedError

if TYPE_CHECKING:
    from scenarios.testbed.state import StateFolder

#: faults of supervisord's interface (supervisor.xmlrpc.Faults)
ALREADY_STARTED, NOT_RUNNING = 60, 70


class SupervisorClient:
    """Calls to one supervisord.  Safe to use from several threads: every call makes a connection of its own."""

    def __init__(self, folder: StateFolder) -> None:
        self._folder = folder

    def is_alive(self) -> bool:
        """Return whether supervisord answers and is not about to end."""
        try:
            return bool(self._proxy().getState()["statecode"] == 1)
        except (OSError, xmlrpc.client.Error):
            return False

    def processes(self) -> list[dict[str, Any]]:
        """Return supervisord's record of every peer's process."""
        return list(self._call("getAllProcessInfo"))

    def process(self, name: str) -> dict[str, Any]:
        """Return supervisord's record of one peer's process."""
        return dict(self._call("getProcessInfo", name))

    def start(self, name: str) -> None:
        """Start a process and return as soon as it runs; no effect when it is up."""
        self._call("startProcess", name, False, ignore=ALREADY_STARTED)

    def stop(self, name: str, wait: bool = True) -> None:
        """Send SIGTERM; supervisord keeps the process down.  No effect when it is down."""
        self._call("stopProcess", name, wait, ignore=NOT_RUNNING)

    def launch(self) -> None:
        """Start supervisord from the configuration that the deployment wrote; it starts every peer."""
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(self._folder.supervisor_conf)]
        done = subprocess.run(  # noqa: S603 - no shell, and every argument is ours
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise TestbedError(f"supervisord does not start: {(done.stderr or done.stdout).strip()[-500:]}")
        deadline = time.monotonic() + 10
        while not self.is_alive():
            if time.monotonic() > deadline:
                raise TestbedError(f"supervisord does not answer; see {self._folder.supervisor}/supervisord.log")
            time.sleep(0.05)

    def _proxy(self) -> Any:
        transport = SupervisorTransport(None, None, f"unix://{self._folder.socket}")
        return xmlrpc.client.ServerProxy("http://localhost", transport=transport).supervisor

    def _call(self, method: str, *arguments: object, ignore: int | None = None) -> Any:
        try:
            return getattr(self._proxy(), method)(*arguments)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode == ignore:
                return None
            raise TestbedError(f"supervisord refuses {method}{arguments}: {fault.faultString}") from None
        except (OSError, xmlrpc.client.Error):
            raise TestbedError("the testbed's supervisord does not answer; run `fab testbed.heal`") from None
