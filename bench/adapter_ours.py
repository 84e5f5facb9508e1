"""Our peers, on the asyncio loop that the stock implementation runs on too."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from twisted.internet import asyncioreactor

loop = asyncio.new_event_loop()
asyncioreactor.install(loop)

import peers  # noqa: E402  (the reactor comes first)
from kademlia.network import Server  # noqa: E402
from kademlia.records import Record  # noqa: E402

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred


async def wait(deferred: Deferred[Any]) -> Any:
    """Await a Deferred on the asyncio loop."""
    return await deferred.asFuture(loop)


class OurPeer:
    """One of our peers."""

    def __init__(self, node_id: bytes) -> None:
        self.node_id = node_id
        self.server = Server(peers.KSIZE, peers.ALPHA, node_id)
        self.server.listen(0, peers.ADDRESS)

    async def set(self, key: str, value: bytes) -> bool:
        """Store."""
        return bool(await wait(self.server.set(key, value)))

    async def get(self, key: str) -> bytes | None:
        """Read."""
        value: bytes | None = await wait(self.server.get(key))
        return value

    def holds(self, key: str) -> bool:
        """Look into the store."""
        return self.server.storage.get(peers.digest(key)) is not None

    async def kill(self) -> None:
        """Close the socket; there is no goodbye."""
        await wait(self.server.stop())


async def join(node_id: bytes, via: OurPeer | None) -> OurPeer:
    """Start a peer."""
    peer = OurPeer(node_id)
    if via is not None:
        assert await wait(peer.server.bootstrap([via.server.address]))
    return peer


def fill(peer: OurPeer, count: int) -> None:
    """Put records into the store."""
    now = time.time()
    for number in range(count):
        peer.server.storage.put(Record(peers.digest(f"stored {number}"), b"value", 1, now + 3600, now))


if __name__ == "__main__":
    peers.main(peers.Implementation("ours", join, fill), loop)
