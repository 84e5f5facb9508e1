"""The commands a person types: twist, twistd and the .tac files, each in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

from twisted.trial.unittest import SkipTest, SynchronousTestCase

import kademlia

NODE = Path(kademlia.__file__).resolve().parent.parent
HOST = "127.0.60.31"
TWIST = [sys.executable, "-c", "from twisted.application.twist._twist import Twist; Twist.main()"]
TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]


def free_port(kind: socket.SocketKind, host: str = HOST) -> int:
    """Return a port that nobody uses right now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


class Commands(SynchronousTestCase):
    """Start peers as a person does."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)
        self.udp, self.tcp = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_STREAM)
        self.config = self.folder / "peer.toml"
        (self.folder / "token").write_text("a-long-token")
        self.config.write_text(
            f'[node]\naddress = "{HOST}"\nport = {self.udp}\ndata_dir = "data"\n'
            f'[http]\nport = {self.tcp}\n[control]\ntoken_file = "token"\n'
        )
        # node/ is on the path for Twisted to look for plugins there, whichever way the package is installed.
        self.environment = {**os.environ, "PYTHONPATH": str(NODE), "KADEMLIA_CONFIG": str(self.config)}

    def tac(self, name: str) -> list[str]:
        """Return the command that runs one of the .tac files."""
        if not (NODE / name).exists():
            raise SkipTest("the .tac files are in the repository only")
        return [*TWISTD, "-noy", str(NODE / name)]

    def ways(self) -> list[list[str]]:
        """Return every command that starts the configured peer in the foreground."""
        config = ["kademlia", "--config", str(self.config)]
        return [[*TWIST, *config], [*TWISTD, "-n", *config], self.tac("webserver.tac")]

    def start(self, command: list[str]) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(  # noqa: S603
            command, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

        def end() -> None:
            if child.poll() is None:
                child.kill()
            child.communicate()

        self.addCleanup(end)
        return child

    def ask(self, path: str, method: str = "GET", **headers: str) -> Any:
        """Ask the peer, as soon as it answers."""
        return json.loads(self.fetch(f"http://{HOST}:{self.tcp}{path}", method, None, headers))

    def fetch(
        self, url: str, method: str = "GET", body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> bytes:
        """Return the body of an answer, as soon as there is one."""
        request = Request(url, body, headers or {}, method=method)  # noqa: S310
        for _ in range(200):
            try:
                with urlopen(request, timeout=5) as answer:  # noqa: S310
                    return bytes(answer.read())
            except URLError as error:
                if not isinstance(error.reason, ConnectionRefusedError):
                    raise
                time.sleep(0.05)
        raise AssertionError("the peer does not answer")

    def peer_on_ipv6(self, name: str, bootstrap: str = "") -> tuple[str, str]:
        """Start a peer on ::1; return its UDP address and its URL."""
        udp, tcp = free_port(socket.SOCK_DGRAM, "::1"), free_port(socket.SOCK_STREAM, "::1")
        config = self.folder / f"{name}.toml"
        config.write_text(
            f'[node]\naddress = "0:0:0:0:0:0:0:1"\nport = {udp}\ndata_dir = "{name}"\nbootstrap = [{bootstrap}]\n'
            f'[http]\naddress = "::1"\nport = {tcp}\n'
        )
        self.start([*TWIST, "kademlia", "--config", str(config)])
        return f"[::1]:{udp}", f"http://[::1]:{tcp}"

    def refusals(self) -> list[str]:
        """Return the one line with which each way to start a peer refuses."""
        lines = []
        for command in self.ways():
            done = subprocess.run(  # noqa: S603
                command, cwd=self.folder, env=self.environment, capture_output=True, check=False, timeout=30
            )
            self.assertEqual(done.returncode, 1, done.stderr)
            (line,) = done.stderr.decode().splitlines()
            self.assertNotIn(b"Traceback", done.stdout)
            lines.append(line)
        return lines

    def test_every_way_starts_a_peer_that_sigterm_ends_in_good_order(self) -> None:
        """Exit status 0, nothing on stderr, nothing left in the working directory."""
        before = {path.name for path in self.folder.iterdir()} | {"data"}
        for command in self.ways():
            child = self.start(command)
            status = self.ask("/status")
            self.assertEqual((status["pid"], status["state"]), (child.pid, "alone"))
            child.send_signal(signal.SIGTERM)
            _, errors = child.communicate(timeout=10)
            self.assertEqual((child.returncode, errors), (0, b""))
            self.assertEqual({path.name for path in self.folder.iterdir()}, before)

    def test_shutdown_over_http_ends_the_process(self) -> None:
        """The answer arrives before it."""
        child = self.start(self.ways()[0])
        answer = self.ask("/control/shutdown", "POST", Authorization="Bearer a-long-token")
        self.assertEqual(answer, {"state": "stopping"})
        self.assertEqual(child.wait(timeout=10), 0)

    def test_a_daemon_uses_its_store(self) -> None:
        """twistd forks after it made the service, which a SQLite connection would not survive."""
        command = [*TWISTD, "--pidfile", "pid", "--logfile", "log", "kademlia", "--config", str(self.config)]
        self.assertEqual(self.start(command).wait(timeout=10), 0)
        pid = int((self.folder / "pid").read_text())
        try:
            self.assertEqual((self.ask("/status")["pid"], self.ask("/storage")["total"]), (pid, 0))
        finally:
            os.kill(pid, signal.SIGTERM)
        for _ in range(200):
            if not (self.folder / "pid").exists():
                break
            time.sleep(0.05)
        self.assertFalse((self.folder / "pid").exists())

    def test_the_bare_peer_listens_on_udp_only(self) -> None:
        """With the same configuration file."""
        child = self.start(self.tac("server.tac"))
        assert child.stdout is not None
        while b"on UDP" not in child.stdout.readline():
            self.assertIsNone(child.poll())
        with socket.socket() as probe:
            self.assertNotEqual(probe.connect_ex((HOST, self.tcp)), 0)

    def test_the_log_is_json_lines_on_request(self) -> None:
        """Every line of it, from the first on, whichever way the peer is started; level and namespace included."""
        self.config.write_text(self.config.read_text() + '[log]\nformat = "json"\n')
        for command in self.ways():
            child = self.start(command)
            self.ask("/status")
            child.send_signal(signal.SIGTERM)
            output, _ = child.communicate(timeout=10)
            lines = [json.loads(line) for line in output.decode().splitlines()]
            for line in lines:
                self.assertEqual(set(line), {"time", "level", "namespace", "message"})
                self.assertEqual(datetime.fromisoformat(line["time"]).tzinfo, UTC)
            (ours,) = [line for line in lines if line["namespace"] == "kademlia.service.PeerService"]
            self.assertEqual(ours["level"], "info")
            self.assertIn(f"on UDP ('{HOST}', {self.udp})", ours["message"])

    def test_a_level_hides_what_is_below_it_from_the_first_line_on(self) -> None:
        """A peer in good order has nothing to warn of."""
        self.config.write_text(self.config.read_text() + '[log]\nlevel = "warn"\n')
        for command in self.ways():
            child = self.start(command)
            self.ask("/status")
            child.send_signal(signal.SIGTERM)
            self.assertEqual(child.communicate(timeout=10), (b"", b""))

    def test_debug_shows_what_twisted_says_of_itself(self) -> None:
        """In JSON as well."""
        self.config.write_text(self.config.read_text() + '[log]\nlevel = "debug"\nformat = "json"\n')
        child = self.start(self.ways()[0])
        self.ask("/status")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(b"nonsense", (HOST, self.udp))
        self.ask("/status")
        child.send_signal(signal.SIGTERM)
        output, _ = child.communicate(timeout=10)
        lines = [json.loads(line) for line in output.decode().splitlines()]
        self.assertIn("debug", {line["level"] for line in lines})

    def test_peers_on_ipv6_join_and_serve_each_other_s_values(self) -> None:
        """From the configuration to the URL: addresses in any spelling, in brackets where a port follows."""
        first, there = self.peer_on_ipv6("first")
        self.fetch(f"{there}/status")
        _, here = self.peer_on_ipv6("second", f'"{first}"')
        for _ in range(200):
            status = json.loads(self.fetch(f"{here}/status"))
            if status["state"] == "joined":
                break
            time.sleep(0.05)
        self.assertEqual((status["state"], status["address"]), ("joined", "::1"))
        self.fetch(f"{here}/dht/key", "PUT", b"value")
        self.assertEqual(self.fetch(f"{there}/dht/key"), b"value")
        (neighbour,) = json.loads(self.fetch(f"{here}/neighbours"))
        self.assertEqual(f"[{neighbour['address']}]:{neighbour['port']}", first)

    def test_busy_ports_are_one_line_and_status_1(self) -> None:
        """UDP first, then TCP; each names address and port."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.bind((HOST, self.udp))
            for line in self.refusals():
                self.assertIn(f"cannot listen on UDP {HOST}:{self.udp}", line)
        with socket.create_server((HOST, self.tcp)):
            for line in self.refusals():
                self.assertIn(f"cannot listen on TCP {HOST}:{self.tcp}", line)

    def test_a_bad_configuration_is_one_line_and_status_1(self) -> None:
        """Missing, and wrong."""
        self.config.write_text('[node]\naddress = "127.0.60.1"\ndata_dir = "d"\nbootstrap = ["here"]\n')
        for line in self.refusals():
            self.assertIn("node.bootstrap must be", line)
        self.config.unlink()
        for line in self.refusals():
            self.assertIn(f"{self.config}: No such file", line)

    def test_a_store_that_cannot_be_opened_is_one_line_and_status_1(self) -> None:
        """A damaged one, and one in use."""
        (self.folder / "data").mkdir()
        (self.folder / "data/store.sqlite").write_bytes(b"damaged " * 100)
        for line in self.refusals():
            self.assertIn("move it away", line)

    def test_twist_without_a_configuration_says_what_is_missing(self) -> None:
        """One line as well."""
        done = subprocess.run(  # noqa: S603
            [*TWIST, "kademlia"], env=self.environment, capture_output=True, check=False, timeout=30
        )
        self.assertEqual((done.returncode, done.stderr.count(b"\n")), (1, 1))
        self.assertIn(b"--config FILE", done.stderr)
