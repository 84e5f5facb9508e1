"""Where copies should be, and where they are.

Kademlia stores a pair at the k peers whose node IDs are closest to the key by XOR (Maymounkov and Mazières, 2002,
sections 2.1 and 2.3).  The truth here is computed from every live peer's node ID, not from any routing table.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from scenarios.workload.keys import key_digest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping


def closest(nodes: Mapping[str, int], digest: int, count: int) -> list[str]:
    """Return the names of the `count` peers closest to a digest, closest first."""
    return heapq.nsmallest(count, nodes, key=lambda name: nodes[name] ^ digest)


def node_numbers(nodes: Mapping[str, str]) -> dict[str, int]:
    """Return node IDs as numbers; raises `ValueError` for what is not hexadecimal."""
    return {name: int(node_id, 16) for name, node_id in nodes.items()}


class Placement:
    """Actual holders of keys against the peers that should hold them.

    `placed[n]` counts the keys of which n of the wanted closest peers hold a copy, `copies[n]` those with n
    holders anywhere; `missing` names, for every deficient key, the closest peers that lack it.
    """

    def __init__(
        self, keys: Iterable[str], holders: Mapping[str, Collection[str]], nodes: Mapping[str, str], ksize: int
    ) -> None:
        numbers = node_numbers(nodes)
        self.wanted = min(ksize, len(nodes))
        self.placed = [0] * (self.wanted + 1)
        self.copies = [0] * (len(nodes) + 1)
        self.missing: dict[str, list[str]] = {}
        self.homeless: list[str] = []
        for key in keys:
            held = holders.get(key, ())
            lacking = [
                name for name in closest(numbers, int(key_digest(key), 16), self.wanted) if name not in held
            ]
            self.placed[self.wanted - len(lacking)] += 1
            self.copies[len(held)] += 1
            if lacking:
                self.missing[key] = lacking
            if not held:
                self.homeless.append(key)
