"""Resident memory of an idle `twist kademlia`: a peer as it is deployed, with its store on disk and webserver."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.request import urlopen

from memory import resident
from peers import ADDRESS

#: seconds
START = 20.0
SETTLE = 3.0


def free_port(kind: socket.SocketKind) -> int:
    """Return a port that nobody uses at the moment."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind((ADDRESS, 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_healthy(http_port: int) -> None:
    """Return when the peer answers over HTTP; raises `OSError` when it does not in time."""
    end = time.monotonic() + START
    while True:
        try:
            with urlopen(f"http://{ADDRESS}:{http_port}/healthz", timeout=1):
                return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def main() -> None:
    """Start a peer, wait, look, end it."""
    http_port = free_port(socket.SOCK_STREAM)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "peer.toml")
        config.write_text(
            f'[node]\naddress = "{ADDRESS}"\nport = {free_port(socket.SOCK_DGRAM)}\ndata_dir = "{folder}"\n'
            f"[http]\nport = {http_port}\n",
            encoding="utf-8",
        )
        twist = Path(sys.executable).with_name("twist")
        with subprocess.Popen(  # noqa: S603  (the program beside our own interpreter)
            [twist, "kademlia", "--config", config], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as peer:
            try:
                wait_until_healthy(http_port)
                time.sleep(SETTLE)
                print(json.dumps({"ours": {"twist_mib": resident(peer.pid) / 1024}}))
            finally:
                peer.terminate()


if __name__ == "__main__":
    main()
