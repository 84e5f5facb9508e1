"""Peers of PyPI's kademlia; runs in an environment of its own."""

from __future__ import annotations

import logging

import peers
from kademlia.network import Server


class StockPeer:
    """One stock peer."""

    def __init__(self, node_id: bytes) -> None:
        self.node_id = node_id
        self.server = Server(peers.KSIZE, peers.ALPHA, node_id)

    async def set(self, key: str, value: bytes) -> bool:
        """Store."""
        return bool(await self.server.set(key, value))

    async def get(self, key: str) -> bytes | None:
        """Read."""
        value: bytes | None = await self.server.get(key)
        return value

    def holds(self, key: str) -> bool:
        """Look into the store."""
        return self.server.storage.get(peers.digest(key)) is not None

    async def kill(self) -> None:
        """Close the socket; there is no goodbye."""
        self.server.stop()


async def join(node_id: bytes, via: StockPeer | None) -> StockPeer:
    """Start a peer."""
    peer = StockPeer(node_id)
    await peer.server.listen(0, peers.ADDRESS)
    if via is not None:
        await peer.server.bootstrap([via.server.transport.get_extra_info("sockname")])
    return peer


def fill(peer: StockPeer, count: int) -> None:
    """Put pairs into the store."""
    for number in range(count):
        peer.server.storage[peers.digest(f"stored {number}")] = b"value"


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    peers.main(peers.Implementation("kademlia", join, fill))
