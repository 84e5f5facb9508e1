"""Records that holders could not be given, and get later (paper, section 2.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import ensureDeferred
from twisted.trial.unittest import SynchronousTestCase

from kademlia.codec import REQUEST, decode
from kademlia.contact import Contact
from kademlia.ids import digest
from kademlia.records import Record
from kademlia.test.virtual import DAY, HOUR, Address, Network, home, requests

if TYPE_CHECKING:
    from kademlia.network import Server


class Missed(SynchronousTestCase):
    """Whoever gave a record remembers, until the holder has answered."""

    def alone_with(self, network: Network) -> tuple[Server, Server, Contact]:
        """Return a publisher and a holder of a network of two that know each other, and the holder's contact."""
        publisher, holder = network.grow(2, ksize=2)
        network.run(2)
        return publisher, holder, Contact(holder.id, *home(holder))

    def test_what_a_holder_missed_is_kept_until_it_answers(self) -> None:
        """The first attempt to give it may be lost as well, and nobody notices that the holder is there again."""
        network = Network()
        publisher, holder, contact = self.alone_with(network)
        send, lost = network.send, [12]

        def lossy(datagram: bytes, source: Address, target: Address) -> None:
            message = decode(datagram)
            if message.kind == REQUEST and message.body[0] == "store" and lost[0]:
                lost[0] -= 1
            else:
                send(datagram, source, target)

        network.send = lossy  # type: ignore[method-assign]
        record = publisher.publisher.keeper.accept(digest("key"), b"v", 1, DAY)
        publisher.handover.missed.add(contact, record)
        network.run(HOUR / 2)
        assert lost == [0]
        assert holder in network.holders(digest("key"))
        assert publisher.handover.missed.count == 0
        assert not publisher.handover.missed.waiting

    def test_what_a_holder_missed_is_never_replaced_by_something_older(self) -> None:
        """Nor is anything older given than what is held here, nor what has expired."""
        network = Network()
        publisher, holder, contact = self.alone_with(network)
        keeper, missed = publisher.publisher.keeper, publisher.handover.missed
        now = network.wall()
        for number, (version, life) in enumerate(((7, DAY), (6, DAY), (5, 0.5))):
            missed.add(contact, Record(digest("key"), b"%d" % version, version, now + life, now))
            assert missed.count == 1, number
        missed.add(contact, Record(digest("expired"), b"v", 1, now + 0.5, now))
        missed.add(contact, Record(digest("newer here"), b"old", 1, now + DAY, now))
        missed.add(contact, Record(digest("newer elsewhere"), b"old", 1, now + DAY, now))
        keeper.accept(digest("newer here"), b"new", 2, DAY)
        missed.superseded(Record(digest("newer elsewhere"), b"old", 1, now + DAY, now))
        assert missed.bytes == sum(r.size for waiting in missed.waiting.values() for r in waiting.records.values())
        network.run(3)
        given = {key: holder.storage.get(digest(key)) for key in ("key", "newer here")}
        assert {key: record and record.value for key, record in given.items()} == {
            "key": b"7",
            "newer here": b"new",
        }
        assert holder.storage.count == 2
        assert (missed.count, missed.bytes) == (0, 0)

    def test_attempts_to_give_what_was_missed_become_rare_but_do_not_cease(self) -> None:
        """A holder that is gone is only pinged; one that comes back after minutes gets its record within 30 s."""
        network = Network()
        publisher, holder, contact = self.alone_with(network)
        cut = {home(holder)}
        network.lost = lambda source, target: bool(cut & {source, target})
        publisher.handover.missed.add(contact, publisher.publisher.keeper.accept(digest("key"), b"v", 1, DAY))
        network.run(0.9 * HOUR)
        network.sent.clear()
        network.run(3 * HOUR)
        assert len([1 for source, _ in requests(network, "store") if source == home(publisher)]) <= 8
        cut.clear()
        network.run(35)
        assert holder in network.holders(digest("key"))

    def test_a_missed_store_is_remembered_before_the_others_are_answered(self) -> None:
        """Whoever publishes may be stopped, or its client leave, while one holder is slow."""
        network = Network()
        servers = network.grow(3, ksize=3)
        network.run(2)
        publisher = servers[0]
        dead = servers[1]
        network.ports.pop(home(dead))
        calls = publisher.protocol
        slow = next(c for c in publisher.table.closest(0, 3) if c.home == home(servers[2]))
        send = calls.send

        def never_answered(contact: Contact, *arguments: Any) -> None:
            if contact != slow:
                send(contact, *arguments)

        self.patch(calls, "send", never_answered)
        record = publisher.publisher.keeper.accept(digest("key"), b"v", 1, DAY)
        storing = ensureDeferred(publisher.publisher.store(record, publisher.table.closest(0, 3), "publish"))
        network.run(10)
        self.assertNoResult(storing)
        assert list(publisher.handover.missed.waiting) == [dead.id]

    def test_a_stopped_peer_remembers_no_holders(self) -> None:
        """What ends with it fails, and must not leave a timer."""
        network = Network()
        publisher, _, contact = self.alone_with(network)
        record = publisher.publisher.keeper.accept(digest("key"), b"v", 1, DAY)
        publisher.handover.missed.add(contact, record)
        publisher.handover.stop()
        publisher.handover.missed.add(contact, record)
        assert not publisher.handover.missed.waiting
