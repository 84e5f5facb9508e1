"""Periodic work and the confirming of doubted records, where it takes long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from kademlia.ids import digest
from kademlia.test.virtual import Network

if TYPE_CHECKING:
    from kademlia.publishing import Stored
    from kademlia.records import Record


class Confirming(SynchronousTestCase):
    """A peer that was away has what it holds confirmed by replicating it."""

    def test_a_doubt_that_recurs_meanwhile_begins_no_second_round(self) -> None:
        """Found by fuzzing: each began a round of its own, refreshes included, and they piled up without bound."""
        network = Network(latency=0.01)
        peer = list(network.grow(4, ksize=4))[1]
        assert network.result(peer.set("key", b"v"))
        network.run(10)
        for loop in peer.maintenance._loops:
            loop.stop()  # the periodic work is another round
        good, held = peer.publisher.store, Deferred[None]()
        under_way, began = 0, 0

        async def store(record: Record, *args: Any) -> Stored:
            nonlocal under_way, began
            under_way, began = under_way + 1, began + 1
            if not held.called:
                await held
            under_way -= 1
            return await good(record, *args)

        peer.publisher.store = store  # type: ignore[method-assign,assignment]
        for _ in range(5):
            peer.maintenance.doubt()
            network.run(2)
        self.assertEqual((under_way, began), (1, 1))
        held.callback(None)
        network.run(2)
        self.assertEqual((under_way, began), (0, 1))  # it was confirmed after the last doubt arose
        peer.maintenance.doubt()
        network.run(2)
        self.assertEqual((under_way, began), (0, 2))
        record = peer.storage.get(digest("key"))
        assert record is not None
        self.assertFalse(peer.publisher.keeper.doubts(record))
