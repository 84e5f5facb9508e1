"""The state folder: what is current, and where everything that a testbed writes is found.

`inventory/hosts.py` imports this module too: it needs nothing but the standard library.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from scenarios.errors import TestbedError

#: the checkout
ROOT = Path(__file__).resolve().parents[2]
TOPOLOGY_FILE = ROOT / "inventory" / "topology.yml"
#: sockaddr_un.sun_path holds 108 bytes; supervisord binds `<socket>.<pid>` first and then renames
SUN_PATH_MAX = 107 - len(".4194304")


@dataclass(frozen=True, slots=True)
class Current:
    """The current testbed: what differs from the declaration."""

    #: keys of `topology.Declaration`, over inventory/topology.yml
    settings: dict[str, Any] = field(default_factory=dict)
    #: variables of the Ansible role, over its defaults
    variables: dict[str, Any] = field(default_factory=dict)
    #: False from the start of a deployment to its successful end
    complete: bool = True

    def incomplete(self) -> Current:
        """Return the same testbed, marked as being deployed."""
        return replace(self, complete=False)


@dataclass(frozen=True, slots=True)
class StateFolder:
    """Paths and records of one testbed; every file in it is private to the user."""

    root: Path

    @classmethod
    def default(cls) -> StateFolder:
        """Return the folder named by `TESTBED_STATE`, else `.testbed` of the checkout.

        Raises `TestbedError` where it can never be one.
        """
        root = Path(os.environ.get("TESTBED_STATE") or ROOT / ".testbed").resolve()
        if re.search(r"\{[{%#]|[\x00-\x1f]", str(root)):
            raise TestbedError(
                f"Ansible would take a part of {str(root)!r} for a template; name another state folder with "
                "TESTBED_STATE"
            )
        if root.exists() and not root.is_dir():
            raise TestbedError(f"{root} is no folder; name another state folder with TESTBED_STATE")
        return cls(root)

    @property
    def current_file(self) -> Path:
        """Which testbed is current; Vagrantfile and inventory read it too."""
        return self.root / "current.json"

    @property
    def lock_file(self) -> Path:
        """Held by whoever changes or measures the testbed."""
        return self.root / "lock"

    @property
    def deploy_log(self) -> Path:
        """Ansible's output of the last deployment made by `fab`."""
        return self.root / "deploy.log"

    @property
    def deploy_pid(self) -> Path:
        """Process group of the deployment that is running, if one is."""
        return self.root / "deploy.pid"

    @property
    def venv(self) -> Path:
        """The peers' virtual environment."""
        return self.root / "venv"

    @property
    def config(self) -> Path:
        """One TOML file for each peer, and the control token."""
        return self.root / "config"

    @property
    def data(self) -> Path:
        """One folder for each peer: its node ID and its store."""
        return self.root / "data"

    @property
    def logs(self) -> Path:
        """One log for each peer."""
        return self.root / "logs"

    @property
    def supervisor(self) -> Path:
        """Supervisord's configuration, log and pid file."""
        return self.root / "supervisor"

    @property
    def supervisor_conf(self) -> Path:
        """Supervisord's configuration."""
        return self.supervisor / "supervisord.conf"

    @property
    def socket(self) -> Path:
        """Supervisord's socket: in the folder, or in `runtime` where the path would be too long for a socket."""
        socket = self.supervisor / "supervisor.sock"
        return socket if len(os.fsencode(socket)) <= SUN_PATH_MAX else self.runtime / "supervisor.sock"

    @property
    def runtime(self) -> Path:
        """A short private folder outside the state folder, used only where `socket` says so."""
        base = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
        digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:16]
        return base / f"kademlia-testbed-{os.getuid()}-{digest}"

    def peer_config(self, name: str) -> Path:
        """Return the configuration file of a peer; also what tells its process from every other one."""
        return self.config / f"{name}.toml"

    def read(self) -> Current | None:
        """Return the current testbed, or None; raises `TestbedError` where the record is damaged."""
        try:
            record = json.loads(self.current_file.read_text(encoding="utf-8"))
            return Current(dict(record["settings"]), dict(record["variables"]), bool(record["complete"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TestbedError(
                f"{self.current_file} cannot be read ({error}); run `fab testbed.down` and start again"
            ) from None

    def write(self, current: Current) -> None:
        """Record what is current, all or nothing."""
        self.create()
        write_atomically(self.current_file, json.dumps(asdict(current), indent=2) + "\n")

    def create(self) -> None:
        """Make the folder, private to the user."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise TestbedError(f"cannot make the state folder {self.root}: {error.strerror}") from None


def write_atomically(path: Path, text: str) -> None:
    """Replace the file at `path`, readable by the user only; a reader sees the old text or the new one."""
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
    ) as new:
        try:
            new.write(text)
            new.flush()
            os.fsync(new.fileno())
            Path(new.name).replace(path)
        except BaseException as error:
            Path(new.name).unlink(missing_ok=True)
            if isinstance(error, OSError):  # a failed write does not say of what
                raise OSError(error.errno, error.strerror, str(path)) from error
            raise
