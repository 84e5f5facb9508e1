"""Find out, before anything is touched, whether the peers' addresses and ports can be had."""

from __future__ import annotations

import errno
import socket
import tomllib
from typing import TYPE_CHECKING

from scenarios.errors import TestbedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scenarios.testbed.model import Peer
    from scenarios.testbed.state import StateFolder

#: kind of socket, address, port
Place = tuple[socket.SocketKind, str, int]
OPTIONS = {socket.SOCK_DGRAM: ("UDP", "--udp-port"), socket.SOCK_STREAM: ("TCP", "--http-port")}


def address_exists(address: str) -> bool:
    """Return whether sockets of this machine can have the address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
        return True


def held_by(folder: StateFolder, names: Iterable[str]) -> set[Place]:
    """Return the places that these peers, which are running, hold by right."""
    places: set[Place] = set()
    for name in names:
        try:
            config = tomllib.loads(folder.peer_config(name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        places.add((socket.SOCK_DGRAM, config["node"]["address"], config["node"]["port"]))
        places.add((socket.SOCK_STREAM, config["http"]["address"], config["http"]["port"]))
    return places


def check_free(peers: Iterable[Peer], held: set[Place]) -> None:
    """Raise `TestbedError` naming the first place that another program holds, and the option to change."""
    for peer in peers:
        wanted: list[Place] = [
            (socket.SOCK_DGRAM, peer.address, peer.udp_port),
            (socket.SOCK_STREAM, peer.address, peer.http_port),
        ]
        for kind, address, port in wanted:
            if (kind, address, port) not in held:
                _check_place(peer, kind, address, port)


def _check_place(peer: Peer, kind: socket.SocketKind, address: str, port: int) -> None:
    transport, option = OPTIONS[kind]
    with socket.socket(socket.AF_INET, kind) as probe:
        if kind is socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                what = (
                    f"{transport} port {port} on {address}, wanted for {peer.name}, is in use by another program"
                )
                raise TestbedError(f"{what}; end that program or choose other ports with {option}") from None
            if error.errno == errno.EACCES:
                what = f"{transport} port {port} on {address} is reserved for root"
                raise TestbedError(f"{what}; choose ports from 1024 with {option}") from None
            raise TestbedError(
                f"{peer.name} cannot have {transport} port {port} on {address}: {error.strerror}; "
                "choose other addresses with --first-address"
            ) from None
