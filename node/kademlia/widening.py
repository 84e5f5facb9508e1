"""Finding the peers closest to a key that take large values, where stock peers are closer.

A peer names the k closest that it knows, whatever they are: those farther away are not heard of by asking for the
key.  Ours leave out those that they know not to take a large value.  Where that is not enough, the subtrees beside
the one that the k closest are in are looked up too, the nearest first; so publisher and readers look at the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kademlia.crawling import Crawl
from kademlia.ids import ID_BITS, to_bytes, to_int

if TYPE_CHECKING:
    from kademlia.contact import Contact
    from kademlia.protocol import KademliaProtocol

#: subtrees looked up, each as large as all nearer ones together
MAX_WIDER = 4


async def widen(protocol: KademliaProtocol, crawl: Crawl, ksize: int, alpha: int, size: int) -> list[Contact]:
    """Return the k closest contacts that take `size` bytes, after a finished lookup for them; closest first."""
    target = crawl.lookup.target
    found = {contact.id: contact for contact in crawl.lookup.closest()}
    if crawl.lookup.passed:
        answered = sorted(to_int(contact.id) ^ target for contact in (*found.values(), *crawl.lookup.passed))
        first = answered[:ksize][-1].bit_length() - 1
        for bit in range(max(first, 0), min(first + MAX_WIDER, ID_BITS)):
            if len(found) >= ksize:
                break
            beside = Crawl(protocol, to_bytes(target ^ 1 << bit), ksize, alpha, "find_node", size)
            await beside.run()
            found |= {contact.id: contact for contact in beside.lookup.closest()}
    return sorted(found.values(), key=lambda contact: to_int(contact.id) ^ target)[:ksize]
