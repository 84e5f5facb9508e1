"""Mixed networks: our peers as they are deployed, stock peers in an environment of their own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
STOCK_PYTHON = Path(os.environ.get("STOCK_PYTHON", ROOT / ".venv-stock/bin/python"))


def free_port(address: str, kind: socket.SocketKind) -> int:
    """Return a port that nobody is bound to right now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
        return port


class OurPeer:
    """`twist kademlia` in a process of its own, used through its HTTP endpoints."""

    def __init__(self, folder: Path, address: str, ksize: int, bootstrap: list[str]) -> None:
        folder.mkdir()
        self.udp = free_port(address, socket.SOCK_DGRAM)
        http = free_port(address, socket.SOCK_STREAM)
        self.home = f"{address}:{self.udp}"
        self.url = f"http://{address}:{http}"
        config = folder / "kademlia.toml"
        config.write_text(
            f'[node]\naddress = "{address}"\nport = {self.udp}\nksize = {ksize}\nprofile = "lab"\n'
            f'data_dir = "data"\nbootstrap = {json.dumps(bootstrap)}\n[http]\nport = {http}\n',
            encoding="utf-8",
        )
        self.log = (folder / "log").open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "twisted", "kademlia", "--config", str(config)],
            stdout=self.log,
            stderr=self.log,
        )

    def request(self, path: str, body: bytes | None = None) -> bytes:
        """Ask over HTTP; raises `OSError` of some kind when it does not work."""
        with urllib.request.urlopen(self.url + path, data=body, timeout=20) as response:  # noqa: S310  (a loopback URL)
            content: bytes = response.read()
            return content

    def wait_until_ready(self) -> None:
        """Wait until it serves HTTP."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            assert self.process.poll() is None, "the peer ended; see its log"
            with contextlib.suppress(OSError):
                self.request("/status")
                return
            time.sleep(0.05)  # nothing tells when a port begins to listen
        raise AssertionError("the peer does not answer")

    def wait_for_contacts(self, count: int) -> None:
        """Wait until it knows that many peers."""
        deadline = time.monotonic() + 60
        while (known := json.loads(self.request("/status"))["contacts"]) < count:
            assert time.monotonic() < deadline, f"knows {known} peers, not {count}"
            time.sleep(0.1)  # contacts come as datagrams do

    def set(self, key: str, value: bytes) -> bool:
        """Store; tell whether it was acknowledged."""
        return bool(json.loads(self.request(f"/dht/{key}", value))["replicas"])

    def get(self, key: str) -> bytes | None:
        """Read; None where the network has no value."""
        try:
            return self.request(f"/dht/{key}")
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise

    def kill(self) -> None:
        """Be gone."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.log.close()


class StockPeer:
    """PyPI's kademlia 2.2.3 in a process of its own, driven over its pipes."""

    def __init__(self, address: str, ksize: int, bootstrap: list[str]) -> None:
        port = free_port(address, socket.SOCK_DGRAM)
        self.home = f"{address}:{port}"
        script = Path(__file__).with_name("stock_peer.py")
        self.process = subprocess.Popen(
            [str(STOCK_PYTHON), str(script), address, str(port), str(ksize), *bootstrap],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_until_ready(self) -> None:
        """Wait until it has bootstrapped."""
        assert "ready" in self._read()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the stock peer ended"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _ask(self, *command: str) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return self._read()["result"]

    def set(self, key: str, value: bytes) -> bool:
        """Store; tell what the stock peer says of it."""
        return bool(self._ask("set", key, value.decode("latin-1")))

    def get(self, key: str) -> bytes | None:
        """Read; None where the network has no value."""
        found = self._ask("get", key)
        return found.encode("latin-1") if isinstance(found, str) else None

    def asked(self) -> set[str]:
        """Return the names of all RPCs that it was sent."""
        return set(self._ask("asked"))

    def kill(self) -> None:
        """Be gone."""
        self.process.kill()
        self.process.communicate()


class Mixed:
    """A network of both kinds, each peer on a loopback address of its own."""

    def __init__(self, folder: Path, ours: int, stock: int, ksize: int) -> None:
        self.ours: list[OurPeer] = []
        self.stock: list[StockPeer] = []
        for number in range(ours):
            bootstrap = [self.ours[0].home] if self.ours else []
            self.ours.append(OurPeer(folder / f"ours{number}", f"127.0.70.{10 + number}", ksize, bootstrap))
            if not number:
                self.ours[0].wait_until_ready()
        for peer in self.ours:
            peer.wait_until_ready()
        for number in range(stock):
            self.stock.append(StockPeer(f"127.0.71.{10 + number}", ksize, [self.ours[0].home]))
        for stock_peer in self.stock:
            stock_peer.wait_until_ready()
        self.ours[0].wait_for_contacts(min(ksize, ours + stock - 1))

    def kill(self) -> None:
        """End every process."""
        for peer in [*self.ours, *self.stock]:
            peer.kill()


@pytest.fixture
def mixed(tmp_path: Path) -> Iterator[Any]:
    """Return a function that makes a mixed network; all of it is gone after the test."""
    made: list[Mixed] = []

    def make(ours: int, stock: int, ksize: int) -> Mixed:
        made.append(Mixed(tmp_path, ours, stock, ksize))
        return made[-1]

    yield make
    for network in made:
        network.kill()
