"""Keep the peers of the controller itself alive by supervisord, without root."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
import xmlrpc.client
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

#: sockaddr_un.sun_path holds 108 bytes; supervisord binds `<socket>.<pid>` first and then renames
SOCKET_MAX = 107 - len(".4194304")

DAEMON = """\
; Written by Ansible; changes made here are lost at the next deployment.
[supervisord]
logfile = {directory}/supervisord.log
pidfile = {directory}/supervisord.pid
childlogdir = {directory}
directory = {directory}
umask = 077
minfds = {descriptors}
loglevel = info

[unix_http_server]
file = {socket}
chmod = 0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""

# A peer that crashes is started again; one that supervisord was told to stop stays down, whatever its exit status.
PROGRAM = """
[program:{name}]
command = {command}
environment = KADEMLIA_DEPLOYMENT="{deployment}"
autostart = true
autorestart = unexpected
startsecs = 5
startretries = 3
stopsignal = TERM
stopwaitsecs = {stop_timeout}
redirect_stderr = true
stdout_logfile = {log}
stdout_logfile_maxbytes = 10MB
stdout_logfile_backups = 2
"""


class ManagerError(Exception):
    """The service manager cannot do what is wanted; the message says why."""


class Supervisor:
    """One supervisord with a program for each peer."""

    def __init__(self, params: dict[str, Any]) -> None:
        self.directory = Path(params["supervisor_dir"])
        self.conf = self.directory / "supervisord.conf"
        self.socket = Path(params["supervisor_socket"])
        self.config_dir, self.log_dir = Path(params["config_dir"]), Path(params["log_dir"])
        self.venv = Path(params["venv"])
        self.stop_timeout: int = params["stop_timeout"]
        for path in (self.directory, self.socket, self.config_dir, self.log_dir, self.venv):
            if set("%;\n") & set(str(path)):
                raise ManagerError(
                    f"supervisord cannot use the path {path}: choose one without %, ; and line breaks"
                )
        if len(os.fsencode(self.socket)) > SOCKET_MAX:
            raise ManagerError(
                f"{self.socket} is too long for a socket (at most {SOCKET_MAX} bytes); "
                "set kademlia_supervisor_socket to a shorter path"
            )

    # --- what a deployment does ------------------------------------------------------------------------------

    def started(self, deployments: dict[str, str], check: bool) -> tuple[list[str], list[str]]:
        """Have these peers running; return what was done, and the peers that run something older."""
        text = self._conf(deployments)
        changed = not self.conf.exists() or self.conf.read_text() != text
        running = self._answers()
        if check:
            return (["would write supervisord.conf"] if changed else []) + (
                self._start_stopped(list(deployments), check=True) if running else ["would start supervisord"]
            ), []
        actions: list[str] = []
        if changed:
            for folder in (self.directory, self.log_dir, self.socket.parent):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._refuse_foreign(self.socket.parent)
            self.conf.write_text(text)
            self.conf.chmod(0o600)
            actions.append("wrote supervisord.conf")
        if not running:
            actions += self._end_strays()
            self._start_daemon()
            return [*actions, "started supervisord with all peers"], []
        outdated = self._reread(actions)
        stopped = self._stopped(outdated)
        for name in stopped:
            self._replace(name)
            actions.append(f"started {name}")
        actions += self._start_stopped(list(deployments), check=False)
        return actions, [name for name in outdated if name not in stopped]

    def restart(self, names: Sequence[str]) -> None:
        """Stop these peers at once, in an orderly way, and start what is deployed now."""
        for name in names:
            with contextlib.suppress(xmlrpc.client.Fault):
                self._rpc.stopProcess(name, False)
        deadline = time.monotonic() + self.stop_timeout + 10
        while len(self._stopped(names)) < len(names):
            if time.monotonic() > deadline:
                raise ManagerError(f"not all of {', '.join(names)} end; see {self.directory}/supervisord.log")
            time.sleep(0.02)
        for name in names:
            self._replace(name)

    def removed(self, name: str) -> None:
        """Forget the log of a peer that is gone; `started` has stopped it."""
        for log in self.log_dir.glob(f"{name}.log*"):
            log.unlink()

    def failed(self) -> dict[str, str]:
        """Return why the peers failed that supervisord has given up."""
        try:
            infos = self._rpc.getAllProcessInfo()
        except OSError:
            return {"supervisord": "it does not answer"}
        return {i["name"]: i["spawnerr"] or "exits at once" for i in infos if i["statename"] == "FATAL"}

    def log_tail(self, name: str, lines: int = 8) -> str:
        """Return the end of a peer's log."""
        try:
            text = (self.log_dir / f"{name}.log").read_text(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    # --- details ---------------------------------------------------------------------------------------------

    @property
    def _rpc(self) -> Any:
        # Imported here: a host with systemd has this file, and no supervisor.
        from supervisor.xmlrpc import SupervisorTransport  # noqa: PLC0415

        transport = SupervisorTransport(None, None, f"unix://{self.socket}")
        return xmlrpc.client.ServerProxy("http://localhost", transport=transport).supervisor

    def _answers(self) -> bool:
        try:
            return bool(self._rpc.getState()["statecode"] == 1)
        except (OSError, xmlrpc.client.Error):
            return False

    def _conf(self, deployments: dict[str, str]) -> str:
        text = DAEMON.format(directory=self.directory, socket=self.socket, descriptors=1024 + 8 * len(deployments))
        for name, deployment in deployments.items():
            python, config = str(self.venv / "bin/python"), str(self.config_dir / f"{name}.toml")
            # -I: neither the environment nor the working directory of the person may leak into a peer.
            command = [python, "-I", "-m", "twisted", "--reactor=asyncio", "--log-format=text"]
            text += PROGRAM.format(
                name=name,
                command=shlex.join([*command, "kademlia", "--config", config]),
                deployment=deployment,
                stop_timeout=self.stop_timeout,
                log=self.log_dir / f"{name}.log",
            )
        return text

    def _refuse_foreign(self, folder: Path) -> None:
        """Refuse a folder for the socket that another user could have made first, say in /tmp."""
        found = folder.lstat()
        if not folder.is_dir() or folder.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o022:
            raise ManagerError(f"{folder} must be a folder that belongs to you and that nobody else may change")

    def _start_daemon(self) -> None:
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(self.conf)]
        done = subprocess.run(  # noqa: S603 - no shell is involved
            command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )
        if done.returncode:
            raise ManagerError(f"supervisord does not start: {(done.stderr or done.stdout).strip()[-500:]}")
        deadline = time.monotonic() + 10
        while not self._answers():
            if time.monotonic() > deadline:
                raise ManagerError(f"supervisord does not answer; see {self.directory}/supervisord.log")
            time.sleep(0.05)

    def _reread(self, actions: list[str]) -> list[str]:
        """Make supervisord read its configuration again; add, remove, and return the peers that differ."""
        try:
            added, changed, removed = self._rpc.reloadConfig()[0]
        except xmlrpc.client.Fault as fault:
            raise ManagerError(f"supervisord refuses its configuration: {fault.faultString}") from None
        for name in removed:
            with contextlib.suppress(xmlrpc.client.Fault):
                self._rpc.stopProcess(name)
            self._rpc.removeProcessGroup(name)
            actions.append(f"removed {name}")
        for name in added:
            self._rpc.addProcessGroup(name)
            actions.append(f"added {name}")
        return list(changed)

    def _stopped(self, names: Sequence[str]) -> list[str]:
        down = {info["name"] for info in self._rpc.getAllProcessInfo() if not info["pid"]}
        return [name for name in names if name in down]

    def _start_stopped(self, names: Sequence[str], check: bool) -> list[str]:
        stopped = self._stopped(names)
        if not check:
            for name in stopped:
                self._start(name)
        return [f"{'would start' if check else 'started'} {name}" for name in stopped]

    def _replace(self, name: str) -> None:
        """Take a peer's present program in place of an older one, and start it."""
        self._rpc.removeProcessGroup(name)
        self._rpc.addProcessGroup(name)
        self._start(name)

    def _start(self, name: str) -> None:
        # Autostart may have been quicker; a peer that cannot start shows up in `failed`.
        with contextlib.suppress(xmlrpc.client.Fault):
            self._rpc.startProcess(name, False)

    def _end_strays(self) -> list[str]:
        """Kill peers that outlived a killed supervisord: nobody can manage them, and they hold the ports."""
        ended = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                process = os.pidfd_open(int(folder.name))
                try:
                    arguments = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
                    config = arguments[arguments.index("--config") + 1] if "--config" in arguments[:-1] else ""
                    if Path(config).parent == self.config_dir and folder.stat().st_uid == os.getuid():
                        signal.pidfd_send_signal(process, signal.SIGKILL)
                        ended.append(f"ended stray process {folder.name}")
                finally:
                    os.close(process)
        return ended
