"""What fetching large values may cost a peer, whoever offers them and whatever they answer."""

from __future__ import annotations

import random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kademlia import pulling
from kademlia.codec import REQUEST, RESPONSE, Message, decode, encode
from kademlia.ids import digest
from kademlia.parts import HEAD, MAX_VALUE, PART
from kademlia.records import MAX_SIZE, encode_value, sha256
from kademlia.rpc import ATTEMPTS
from kademlia.storage import MemoryStorage
from kademlia.test.virtual import Address, Network, home
from kademlia.transfers import BUSY, LAST_PAUSE, STALLED

VALUE = random.Random(2).randbytes(50 * PART)
BLOB = encode_value(VALUE)
ATTACKER = b"\xaa" * 20


class Offered(SynchronousTestCase):
    """One peer to which offers are made, datagram by datagram."""

    def setUp(self) -> None:
        self.network = Network()
        self.peer = self.network.server(0, storage=MemoryStorage(max_bytes=64 << 20))
        self.pulls = self.peer.protocol.transfers.pulls

    def offer(
        self,
        source: Address,
        *,
        key: bytes = digest("key"),
        size: object = len(BLOB),
        sha: object = sha256(BLOB),
        version: int = 5,
    ) -> Any:
        """Offer something from an address; return the answer, or None where there was none."""
        before = len(self.network.sent)
        body = ["offer", [ATTACKER, key, size, sha]]
        self.peer.protocol.datagramReceived(encode(REQUEST, bytes(20), body, {"v": version, "t": 60.0}), source)
        for _, target, datagram in self.network.sent[before:]:
            message = decode(datagram)
            if message.kind == RESPONSE and target == source:
                return message
        return None

    def asked(self, name: str = "part") -> list[tuple[Address, Message]]:
        """Return what the peer asked of others, in order, repetitions included."""
        messages = [(target, decode(datagram)) for _, target, datagram in self.network.sent]
        return [(target, m) for target, m in messages if m.kind == REQUEST and m.body[0] == name]

    def answer(self, target: Address, message: Message, blob: bytes = BLOB) -> None:
        """Answer a request for a part."""
        offset = message.body[1][3]
        datagram = encode(RESPONSE, message.rpc_id, blob[offset : offset + PART])
        self.peer.protocol.datagramReceived(datagram, target)

    def test_an_offer_from_anywhere_costs_one_small_request_and_reserves_nothing(self) -> None:
        """It may be forged: whoever really is there has to answer first."""
        for number in range(500):
            self.offer((f"10.9.{number // 250}.{number % 250 + 1}", 1000), key=digest(number))
            assert len(self.pulls) <= pulling.MAX_UNANSWERED
        assert self.pulls.reserved == 0
        distinct = {(target, message.rpc_id) for target, message in self.asked()}
        assert len(distinct) == len({target for target, _ in distinct}) == 500
        self.network.run(10)
        assert len(self.pulls) == 0
        assert len(self.asked()) <= 500 * ATTEMPTS
        assert all(len(datagram) < 300 for source, _, datagram in self.network.sent)

    def test_a_value_is_fetched_once_however_often_and_by_whomever_it_is_offered(self) -> None:
        """Until that source fails."""
        for number in range(50):
            answer = self.offer((f"10.9.0.{number + 1}", 1000))
            assert answer.body == 0
        assert len(self.pulls) == 1
        assert len(self.asked()) == 1

    def test_what_is_too_large_is_refused_with_the_limit_before_anything_is_asked(self) -> None:
        """However large it claims to be."""
        for size in (MAX_SIZE + HEAD + 1, 2**31, 2**32 - 1):
            answer = self.offer(("10.9.0.1", 1000), size=size)
            assert (answer.body, answer.extension) == (False, {"p": MAX_SIZE + HEAD})
        assert self.asked() == []

    def test_what_is_no_offer_is_dropped(self) -> None:
        """A size of one datagram, of no number; a digest of another length; no version."""
        for size in (0, -1, MAX_VALUE, 2**32, 2.0, "9000", None, True):
            assert self.offer(("10.9.0.1", 1000), size=size) is None
        for sha in (b"", bytes(20), "x" * 32, None, [1]):
            assert self.offer(("10.9.0.1", 1000), sha=sha) is None
        for version in (0, -1, 2**63):
            assert self.offer(("10.9.0.1", 1000), version=version) is None
        assert self.offer(("10.9.0.1", 1000), key=b"short") is None
        assert self.asked() == []

    def test_bytes_being_assembled_and_pulls_from_one_source_are_bounded(self) -> None:
        """Whoever comes when there is no room is told so, and may offer again."""
        busy = 0
        size = MAX_SIZE + HEAD
        blob = bytes(size)
        for number in range(100):
            source = (f"10.9.0.{number // 10 + 1}", 1000)
            answer = self.offer(source, key=digest(number), size=size, sha=digest(number) + bytes(12))
            busy += answer.body is None
            for target, message in self.asked()[-1:]:
                self.answer(target, message, blob)
            assert self.pulls.reserved <= self.pulls.budget // 2 <= 17 * size
        assert busy >= 80
        assert len(self.pulls) <= 16
        self.network.run(pulling.DEADLINE + 1)
        assert (len(self.pulls), self.pulls.reserved) == (0, 0)

    def test_a_reader_finds_room_where_offers_fill_theirs(self) -> None:
        """Strangers must not keep a peer from reading."""
        other = self.network.server(1)
        self.network.result(other.bootstrap([home(self.peer)]))
        assert self.network.result(other.set("read me", VALUE))
        self.peer.storage.delete(digest("read me"))
        self.pulls.reserved = self.pulls.budget // 2
        assert self.offer(("10.9.0.1", 1000)).body is None
        assert self.network.result(self.peer.get("read me")) == VALUE

    def test_the_window_opens_with_every_answer_and_is_halved_by_a_loss(self) -> None:
        """One part at first; never more than the window's limit."""
        source = ("10.9.0.1", 1000)
        self.offer(source)
        served = 0
        in_flight = []
        while (requests := self.asked()) and served < 40:
            in_flight.append(len(requests) - served)
            self.answer(*requests[served])
            served += 1
        assert in_flight[:4] == [1, 2, 3, 4]
        assert max(in_flight) <= pulling.WINDOW
        pull = next(iter(self.pulls._running.values()))
        before = pull._window
        self.network.run(0.3)
        assert pull._window <= before / 2
        assert pull.received == 40 * PART

    def test_a_source_that_drips_does_not_hold_memory_for_ever(self) -> None:
        """It answers often enough not to be taken for dead."""
        blob = encode_value(bytes(MAX_SIZE))
        self.offer(("10.9.0.1", 1000), size=len(blob), sha=sha256(blob))
        answered: set[bytes] = set()
        while len(self.pulls):
            target, message = next((t, m) for t, m in reversed(self.asked()) if m.rpc_id not in answered)
            answered.add(message.rpc_id)
            self.answer(target, message, blob)
            self.network.run(0.5)
        assert self.peer.stats.pulls == {"late": 1}
        assert pulling.DEADLINE <= self.network.seconds() <= pulling.DEADLINE + 1
        assert self.pulls.reserved == self.peer.storage.count == 0

    def test_a_full_store_refuses_without_fetching_anything(self) -> None:
        """And goes on with what it has."""
        full = self.network.server(1, storage=MemoryStorage(max_bytes=len(BLOB) - 1))
        self.network.result(full.bootstrap([home(self.peer)]))
        contact = next(self.peer.table.entries()).contact
        record = self.peer.publisher.keeper.accept(digest("key"), VALUE, 5, 60)
        answer = self.network.result(self.peer.protocol.store_at(contact, record, "publish"))
        assert (answer.value, answer.extension) == (False, {"full": True})
        assert full.stats.pulls == {}

    def test_a_store_that_fails_is_not_given_the_value_over_and_over(self) -> None:
        """The offers go on until they are answered; each transfer may cost a mebibyte."""
        other = self.network.server(1)
        self.network.result(other.bootstrap([home(self.peer)]))
        self.peer.publisher.keeper.has_room = lambda key, size: True  # type: ignore[method-assign]
        self.peer.storage.max_bytes = 10
        contact = next(other.table.entries()).contact
        record = other.publisher.keeper.accept(digest("key"), VALUE, 5, 60)
        answer = self.network.result(other.protocol.store_at(contact, record, "publish"))
        assert (answer.value, answer.extension) == (False, {"full": True})
        assert self.peer.stats.pulls == {"whole": 1}

    def test_the_bytes_must_be_a_value_in_its_one_spelling(self) -> None:
        """Otherwise two holders of the same value would name and order it differently."""
        blobs = (
            b"\xc6" + (20_000).to_bytes(4, "big") + bytes(20_000),  # bin 32 where msgpack writes bin 16
            b"\xdb" + (20_000).to_bytes(4, "big") + b"a" * 20_000,
            b"\xda" + (20_000).to_bytes(2, "big") + b"\xff" * 20_000,  # no UTF-8
            b"\xc5" + (19_999).to_bytes(2, "big") + bytes(20_000),  # something behind it
            b"\xc5" + (20_001).to_bytes(2, "big") + bytes(20_000),  # something missing
            b"\x91" * 20_000,
            b"\xdc\x4e\x20" + b"\xc0" * 20_000,  # a list
        )
        for number, blob in enumerate(blobs):
            self.offer(("10.9.0.1", 1000), key=digest(number), size=len(blob), sha=sha256(blob))
            served = 0
            requests = [(target, m) for target, m in self.asked() if m.body[1][1] == digest(number)]
            while served < len(requests):
                self.answer(*requests[served], blob)
                served += 1
                requests = [(target, m) for target, m in self.asked() if m.body[1][1] == digest(number)]
            assert self.peer.stats.pulls["mismatch"] == number + 1
        assert self.peer.storage.count == 0

    def test_nothing_is_left_when_the_peer_stops(self) -> None:
        """No timer, no waiting offer, no memory."""
        other = self.network.server(1)
        self.network.result(other.bootstrap([home(self.peer)]))
        published = other.publish("key", VALUE)
        for _ in range(10):
            self.network.advance(self.network.latency)
        assert self.pulls.reserved
        self.peer.stop()
        other.stop()
        assert self.network.result(published).replicas == 1  # its own
        assert self.pulls.reserved == 0
        assert not other.protocol.transfers._pauses
        self.network.run(pulling.DEADLINE + 5)
        assert self.network.calls == []

    def test_a_read_ends_when_the_peer_stops(self) -> None:
        """Those that wait for room, too."""
        other = self.network.server(1)
        self.network.result(other.bootstrap([home(self.peer)]))
        for number in range(12):
            other.publisher.keeper.accept(digest(str(number)), VALUE, 5, 600)
        reads = [self.peer.get(str(number)) for number in range(12)]
        for _ in range(10):
            self.network.advance(self.network.latency)
        assert len(self.pulls) == pulling.MAX_PER_SOURCE
        self.peer.stop()
        assert [self.successResultOf(read) for read in reads] == [None] * 12
        assert (len(self.pulls), self.pulls.reserved) == (0, 0)


class Offering(SynchronousTestCase):
    """Receivers that do not what they should, from the offering side."""

    def given_up_after(self, answers: Any) -> float:
        """Return the seconds after which an offer to a receiver with such answers is given up."""
        network = Network()
        server, receiver = network.grow(2)
        server.maintenance.stop()  # it would offer it, too
        receiver.protocol._handlers["offer"] = lambda *_: next(answers)
        contact = next(server.table.entries()).contact
        record = server.publisher.keeper.accept(digest("key"), VALUE, 5, 600)
        started = network.seconds()
        answer = network.result(server.protocol.store_at(contact, record, "publish"), within=300)
        assert not answer.happened
        assert not server.protocol.transfers.shelf._lent
        return network.seconds() - started

    def test_an_offer_without_progress_is_given_up(self) -> None:
        """A receiver that is busy is waited for longer than one that has stalled."""
        stalled = self.given_up_after(iter([7] * 10_000))
        assert STALLED <= stalled <= STALLED + 3 * LAST_PAUSE
        busy = self.given_up_after(iter([None] * 10_000))
        assert BUSY <= busy <= BUSY + 3 * LAST_PAUSE

    def test_an_offer_ends_whatever_progress_is_claimed(self) -> None:
        """A receiver that counts up for ever does not hold the value in memory for ever."""
        assert self.given_up_after(iter(range(10_000))) < 130
        assert self.given_up_after(iter(["nonsense", [1], {"a": 2}] * 10_000)) < 130
