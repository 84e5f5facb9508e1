"""Peers of OpenDHT through its Python binding; runs in an environment of its own.

Each peer has a thread in C++, whose callbacks are passed on to the asyncio loop.  It keeps 8 replicas where the
paper and the others have k = 20, and decides itself how many requests are in flight.
"""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import opendht
import peers

if TYPE_CHECKING:
    from collections.abc import Callable

#: every peer: to forget one is to shut it down, and to wait for it (see `DhtPeer.kill`)
everybody: list[DhtPeer] = []


def settler(loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any]) -> Callable[[Any], None]:
    """Return what settles a future from another thread; the first result counts."""

    def settle(result: Any) -> None:
        if not future.done():
            future.set_result(result)

    return lambda result: loop.call_soon_threadsafe(settle, result)


class DhtPeer:
    """One OpenDHT peer."""

    def __init__(self, node_id: bytes) -> None:
        self.node_id = node_id
        config = opendht.DhtConfig()
        config.setNodeId(opendht.InfoHash(node_id.hex().encode()))
        # By default a peer takes few requests per second from one address, and all peers are at one here.
        config.setRateLimit(-1, -1)
        self.runner = opendht.DhtRunner()
        self.runner.run(port=0, ipv4=peers.ADDRESS, config=config)
        self.port = int(str(self.runner.getBound()).rpartition(":")[2])
        self.loop = asyncio.get_running_loop()
        everybody.append(self)

    async def set(self, key: str, value: bytes) -> bool:
        """Store; done when the replicas have acknowledged."""
        future = self.loop.create_future()
        settle = settler(self.loop, future)
        self.runner.put(opendht.InfoHash.get(key), opendht.Value(value), lambda ok, _: settle(ok))
        return bool(await future)

    async def get(self, key: str) -> bytes | None:
        """Read; the first value ends it."""
        future = self.loop.create_future()
        settle = settler(self.loop, future)

        def got(value: opendht.Value) -> bool:
            settle(value.data)
            return False

        self.runner.get(opendht.InfoHash.get(key), got, lambda *_: settle(None))
        value: bytes | None = await future
        return value

    def holds(self, key: str) -> bool:
        """Not to be known from outside."""
        del key
        return False

    async def kill(self) -> None:
        """Put the end of a pipe in the place of its socket: from then on it hears nobody and nobody hears it.

        Shutting the runner down in the middle of things blocks now and then for ever: it waits for its thread,
        which waits for the interpreter's lock, which the waiting one keeps.
        """
        descriptor = descriptor_of(self.port)
        nowhere, _ = os.pipe()
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


def descriptor_of(port: int) -> int:
    """Return this process's descriptor of the UDP socket on a port."""
    for link in Path("/proc/self/fd").iterdir():
        descriptor = int(link.name)
        try:
            with socket.socket(fileno=os.dup(descriptor)) as copy:
                if copy.type == socket.SOCK_DGRAM and copy.getsockname()[1:2] == (port,):
                    return descriptor
        except OSError:  # no socket, or the descriptor of the listing itself
            continue
    raise LookupError(f"no socket on port {port}")


async def join(node_id: bytes, via: DhtPeer | None) -> DhtPeer:
    """Start a peer."""
    peer = DhtPeer(node_id)
    if via is not None:
        peer.runner.bootstrap(peers.ADDRESS, str(via.port))
        await peer.get("is anybody there")
    return peer


if __name__ == "__main__":
    peers.main(peers.Implementation("opendht", join))
    os._exit(0)  # an orderly end joins every thread, and meets the same
