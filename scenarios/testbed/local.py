"""The provider `local`: every peer is a process on this machine, kept alive by a supervisord without root."""

from __future__ import annotations

import re
import shutil
import signal
import time
from typing import TYPE_CHECKING, Any

from scenarios.errors import TestbedError
from scenarios.testbed import processes
from scenarios.testbed.deploy import deploy, end_deployment
from scenarios.testbed.model import Peer, ServiceState, Topology
from scenarios.testbed.settings import changed_settings, declaration
from scenarios.testbed.supervisor import SupervisorClient
from scenarios.testbed.topology import topology

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from scenarios.testbed.state import StateFolder

#: seconds within which supervisord notices the end of a process
NOTICED = 5.0


class LocalProvider:
    """Peers of one state folder; implements `model.Provider`."""

    name = "local"
    capabilities = frozenset({"kill", "stop", "pause", "wipe"})

    def __init__(self, folder: StateFolder) -> None:
        self.folder = folder
        self.supervisor = SupervisorClient(folder)

    def topology(self) -> Topology:
        """Return the declared topology of the current testbed."""
        return topology(declaration(self.folder))

    def states(self) -> Mapping[str, ServiceState]:
        """Return supervisord's view of every peer."""
        known = {info["name"]: _state(info) for info in self.supervisor.processes()}
        missing = ServiceState("failed", detail="not deployed; run `fab testbed.up`")
        return {peer.name: known.get(peer.name, missing) for peer in self.topology().peers}

    def kill(self, peer: Peer) -> None:
        """SIGKILL the peer; it stays down until `start`."""
        pid = self.supervisor.process(peer.name)["pid"]
        # supervisord keeps a process down only if it stops it itself, by SIGTERM.  A peer that is frozen first
        # never acts on that signal: what ends it is the SIGKILL, in whatever it was doing.
        if pid:
            processes.signal_peer(pid, self.folder, signal.SIGSTOP)
        self.supervisor.stop(peer.name, wait=False)
        if pid:
            processes.signal_peer(pid, self.folder, signal.SIGKILL)
        self._settled(peer)

    def stop(self, peer: Peer) -> None:
        """SIGTERM the peer and wait for its end; SIGKILL where it takes too long."""
        pid = self.supervisor.process(peer.name)["pid"]
        if pid:
            processes.signal_peer(pid, self.folder, signal.SIGCONT)
        self.supervisor.stop(peer.name)
        self._settled(peer)

    def start(self, peer: Peer) -> None:
        """Start the peer's process."""
        self._settled(peer)
        self.supervisor.start(peer.name)

    def pause(self, peer: Peer) -> None:
        """SIGSTOP the peer; raises `TestbedError` when it is down."""
        self._signal_running(peer, signal.SIGSTOP)

    def resume(self, peer: Peer) -> None:
        """SIGCONT the peer; raises `TestbedError` when it is down."""
        self._signal_running(peer, signal.SIGCONT)

    def wipe(self, peer: Peer) -> None:
        """Delete the store of a peer that is down; its node ID stays."""
        if self.supervisor.process(peer.name)["pid"]:
            raise TestbedError(f"{peer.name} is up; kill or stop it before its store is wiped")
        for entry in (self.folder.data / peer.name).glob("*"):
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry.name != "node_id":
                entry.unlink()

    def heal(self) -> list[str]:
        """Bring back supervisord and every peer; return a sentence for each thing done."""
        done: list[str] = []
        if end_deployment(self.folder):
            done.append("ended a deployment that had lost its controller")
        if not self.supervisor.is_alive():
            if not self.folder.supervisor_conf.exists():
                raise TestbedError("nothing is deployed yet; run `fab testbed.up` again, or `fab testbed.down`")
            strays = processes.end_all(self.folder)
            self.supervisor.launch()
            done.append(f"started supervisord with all peers again ({strays} stray processes ended)")
        peers = self.topology().peers
        states = self.states()
        for peer in peers:
            if states[peer.name].state == "paused":
                self.resume(peer)
                done.append(f"resumed {peer.name}")
        # Looked at again: a controller that died while it killed a peer left it frozen, with a SIGTERM to come.
        states = self.states()
        for peer in peers:
            if states[peer.name].state in ("down", "failed"):
                self.start(peer)
                done.append(f"started {peer.name}")
        return done

    def reconfigure(self, settings: Mapping[str, object]) -> None:
        """Deploy again with these role variables changed; peers restart one after the other."""
        deploy(self.folder, changed_settings(self.folder, settings))

    def log_files(self, peer: Peer) -> list[Path]:
        """Return the peer's logs, oldest first."""
        logs = list(self.folder.logs.glob(f"{peer.name}.log*"))
        return sorted(logs, key=lambda path: -int(match[0]) if (match := re.search(r"\d+$", path.suffix)) else 0)

    def _signal_running(self, peer: Peer, number: signal.Signals) -> None:
        pid = self.supervisor.process(peer.name)["pid"]
        if not pid:
            raise TestbedError(f"{peer.name} is down; it cannot be paused or resumed")
        processes.signal_peer(pid, self.folder, number)

    def _settled(self, peer: Peer) -> None:
        """Wait until supervisord has noticed the end of a process that it stops."""
        deadline = time.monotonic() + NOTICED
        while self.supervisor.process(peer.name)["statename"] == "STOPPING":
            if time.monotonic() > deadline:
                raise TestbedError(f"{peer.name} does not end; run `fab testbed.heal`")
            time.sleep(0.01)


def _state(info: Mapping[str, Any]) -> ServiceState:
    """Translate supervisord's record of a process."""
    name, pid = info["statename"], info["pid"] or None
    uptime = float(info["now"] - info["start"]) if pid else None
    if pid and processes.is_stopped(pid):
        return ServiceState("paused", pid, uptime)
    if name in ("RUNNING", "STARTING"):
        return ServiceState("up", pid, uptime)
    if name in ("STOPPED", "STOPPING") or (name == "EXITED" and info["exitstatus"] == 0):
        return ServiceState("down", pid, uptime)
    return ServiceState("failed", pid, uptime, detail=info["spawnerr"] or info["description"])
