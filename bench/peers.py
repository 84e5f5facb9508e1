"""What the harness needs of an implementation, and the program that every adapter becomes.

Runs inside each implementation's own environment, so this module and those it loads need nothing but Python.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

KSIZE, ALPHA = 20, 3
ADDRESS = "127.0.0.1"


class Peer(Protocol):
    """One peer of an implementation."""

    node_id: bytes

    async def set(self, key: str, value: bytes) -> bool:
        """Store; tell whether the implementation says that it worked."""
        ...

    async def get(self, key: str) -> bytes | None:
        """Read."""
        ...

    def holds(self, key: str) -> bool:
        """Tell whether this peer would answer a get of the key by itself, where that can be known."""
        ...

    async def kill(self) -> None:
        """Be gone without a word."""
        ...


@dataclass(frozen=True)
class Implementation:
    """How to make peers of one implementation."""

    name: str
    #: starts a peer with a node ID and joins it through another, unless it is the first
    join: Callable[[bytes, Peer | None], Awaitable[Peer]]
    #: puts so many pairs straight into the store of a peer; None where that cannot be done
    fill: Callable[[Peer, int], None] | None = None


@dataclass(frozen=True)
class Size:
    """How much work one repetition is: the same for every implementation."""

    peers: int = 100
    keys: int = 200
    #: operations of each phase among the dead: kademlia's take seconds each
    dead_keys: int = 40
    seed: int = 1


def digest(text: str) -> bytes:
    """Return SHA-1, by which all three implementations turn a key into an ID."""
    return hashlib.sha1(text.encode(), usedforsecurity=False).digest()


def node_ids(seed: int, count: int) -> list[bytes]:
    """Return node IDs that all implementations share, so that the same peers are close to the same keys."""
    return [digest(f"peer {number} of seed {seed}") for number in range(count)]


async def start(implementation: Implementation, ids: list[bytes], via: Peer | None = None) -> list[Peer]:
    """Start peers one after another; they join through `via`, or else through the first of them."""
    peers: list[Peer] = []
    for node_id in ids:
        peers.append(await implementation.join(node_id, via))
        via = via or peers[0]
    return peers


def main(implementation: Implementation, loop: asyncio.AbstractEventLoop | None = None) -> None:
    """Take one kind of measurement, named on the command line, and print its figures as JSON."""
    import blocked  # noqa: PLC0415  (they import this module)
    import memory  # noqa: PLC0415
    import workload  # noqa: PLC0415

    kinds = {"workload": workload.measure, "memory": memory.measure, "blocked": blocked.measure}
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=kinds)
    parser.add_argument("--peers", type=int, default=Size.peers)
    parser.add_argument("--keys", type=int, default=Size.keys)
    parser.add_argument("--dead-keys", type=int, default=Size.dead_keys)
    parser.add_argument("--seed", type=int, default=Size.seed)
    arguments = vars(parser.parse_args())
    measure = kinds[arguments.pop("kind")]
    with asyncio.Runner(loop_factory=(lambda: loop) if loop else None) as runner:
        figures = runner.run(measure(implementation, Size(**arguments)))
        print(json.dumps({implementation.name: figures}), flush=True)
