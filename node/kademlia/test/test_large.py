"""Values larger than one datagram: published, read, and never seen in part, whatever the network and others do."""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import ensureDeferred
from twisted.trial.unittest import SynchronousTestCase

from kademlia.codec import REQUEST, decode
from kademlia.contact import Contact
from kademlia.crawling import Crawl
from kademlia.errors import NoPeersReachable, ValueTooLarge
from kademlia.ids import digest
from kademlia.parts import MAX_VALUE, PART, is_large
from kademlia.records import MAX_SIZE, encode_value, sha256
from kademlia.rpc import Reply
from kademlia.speakers import CAPACITY, Speakers
from kademlia.sqlite_store import SQLiteStorage
from kademlia.test.virtual import Address, Network, home, requests

if TYPE_CHECKING:
    from collections.abc import Callable

    from kademlia.crawling import Step
    from kademlia.network import Server
    from kademlia.records import Value

KEY = digest("key")
#: some parts, and quick to move
LARGE = random.Random(1).randbytes(40 * PART)

# Bytes whose encoded form ends just before, at and just behind a boundary: msgpack's head takes 3 or 5 of them.
boundaries = st.sampled_from(
    [0, 1, MAX_VALUE - 4, MAX_VALUE - 3, MAX_VALUE - 2, MAX_VALUE - 1, MAX_VALUE, MAX_VALUE + 1]
    + [parts * PART - head + extra for parts in (1, 2, 7) for head in (3, 5) for extra in (-1, 0, 1)]
    + [65535, 65536, MAX_SIZE - 1, MAX_SIZE]
)


class Rough(Network):
    """A network that loses, doubles and reorders datagrams; `loss` and `twice` are shares of them."""

    def __init__(self, seed: int, loss: float, twice: float, jitter: float) -> None:
        super().__init__(latency=0.002)
        self.rng = random.Random(seed)
        self.loss, self.twice, self.jitter = loss, twice, jitter

    def send(self, datagram: bytes, source: Address, target: Address) -> None:
        """Carry a datagram, roughly."""
        for _ in range(1 + (self.rng.random() < self.twice)):
            if self.rng.random() >= self.loss:
                wait = self.latency + self.rng.random() * self.jitter
                self.callLater(wait, self._deliver, datagram, source, target)


def message_of(datagram: bytes) -> object:
    """Return the name of a request, None of an answer."""
    message = decode(datagram)
    return message.body[0] if message.kind == REQUEST else None


def parts_from(network: Network, server: Server) -> int:
    """Return how many requests for parts were sent to a peer."""
    return sum(target == home(server) for _, target in requests(network, "part"))


def when_asked(network: Network, server: Server, count: int, act: Callable[[], object]) -> None:
    """Act once a peer has been sent that many requests for parts."""
    served = server.protocol._handlers["part"]
    asked = 0

    def part(*arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == count:
            network.callLater(0, act)
        return served(*arguments)

    server.protocol._handlers["part"] = part


class Whole(SynchronousTestCase):
    """What was put in comes out, or nothing does."""

    @settings(max_examples=25, deadline=None)
    @given(boundaries, st.booleans())
    def test_a_value_of_any_size_comes_back_whole_from_every_peer(self, size: int, text: bool) -> None:
        """Around every boundary: of a datagram, of a part, of msgpack's heads, of what is allowed."""
        network = Network()
        servers = network.grow(4, ksize=3)
        value: Value = random.Random(size).randbytes(size)
        if text:
            value = "é" * (size // 2) + "x" * (size % 2)
        published = network.result(servers[0].publish("key", value))
        assert published.replicas == published.asked == 3
        assert set(network.holders(KEY)) == set(network.closest(KEY, 3))
        for server in servers:
            found = network.result(server.get("key"))
            assert found == value
            assert type(found) is type(value)
        assert bool(requests(network, "part")) is is_large(value) is (len(encode_value(value)) > MAX_VALUE)
        assert max(len(datagram) for _, _, datagram in network.sent) <= 8192 + 100

    def test_a_byte_more_than_allowed_is_refused_and_the_message_names_limit_and_setting(self) -> None:
        """Before anything is sent; where more is allowed, it is taken."""
        network = Network()
        servers = network.grow(2)
        before = len(network.sent)
        for value in (b"x" * (MAX_SIZE + 1), "é" * (MAX_SIZE // 2) + "x"):
            error = self.assertRaises(ValueTooLarge, network.result, servers[0].publish("key", value))
            assert str(MAX_SIZE) in str(error)
            assert "[storage] max_value" in str(error)
        assert len(network.sent) == before
        wide = Network()
        for number in range(2):
            wide.server(number, max_value=2 * MAX_SIZE)
        wide.result(wide.servers[1].bootstrap([home(wide.servers[0])]))
        assert wide.result(wide.servers[0].set("key", b"x" * (MAX_SIZE + 1)))
        assert wide.result(wide.servers[1].get("key")) == b"x" * (MAX_SIZE + 1)

    @settings(max_examples=20, deadline=None)
    @given(
        size=st.integers(MAX_VALUE, 30 * PART),
        loss=st.floats(0, 0.1),
        twice=st.floats(0, 0.5),
        jitter=st.floats(0, 0.05),
        seed=st.integers(0, 2**32),
    )
    def test_it_comes_back_whole_over_a_network_that_loses_doubles_and_reorders(
        self, size: int, loss: float, twice: float, jitter: float, seed: int
    ) -> None:
        """Whoever gives up may try again; nobody is ever given anything else."""
        network = Rough(seed, loss, twice, jitter)
        for number in range(4):
            server = network.server(number, ksize=3)
            for _ in range(10):
                if not number or network.result(server.bootstrap([home(network.servers[0])])):
                    break
        value = random.Random(seed).randbytes(size)
        assert any(network.result(network.servers[0].set("key", value), within=300) for _ in range(5))
        for server in network.servers:
            got = [network.result(server.get("key"), within=300) for _ in range(3)]
            assert value in got
            assert set(got) <= {value, None}
        for server in network.holders(KEY):
            record = server.storage.get(KEY)
            assert record is not None
            assert record.value == value

    def test_nothing_of_it_is_seen_before_all_of_it_is_there(self) -> None:
        """Neither in a store nor by a reader, at any moment of the transfer."""
        network = Network()
        servers = network.grow(6, ksize=3)
        *readers, publisher = network.closest(KEY, 6)
        published = publisher.publish("key", LARGE)
        reads = []
        for _ in range(100):
            network.advance(network.latency)
            reads += [reader.get("key") for reader in readers]
            for server in servers:
                record = server.storage.get(KEY)
                assert record is None or record.value == LARGE
                assert server.storage.size in (0, len(encode_value(LARGE)))
        network.result(published)
        got = [network.result(read) for read in reads]
        assert set(got) == {None, LARGE}


class Killed(SynchronousTestCase):
    """Peers that are gone in the middle of a transfer."""

    @staticmethod
    def kill_unless_last(network: Network, holder: Server) -> None:
        """Kill a holder, but leave one."""
        if len(network.holders(KEY)) > 1:
            network.kill(holder)

    def test_a_reader_goes_on_with_another_holder(self) -> None:
        """The first one dies after some parts."""
        network = Network()
        servers = network.grow(8, ksize=4)
        assert network.result(servers[0].set("key", LARGE))
        holders = network.closest(KEY, 4)
        for holder in holders:
            when_asked(network, holder, 20, partial(self.kill_unless_last, network, holder))
        reader = network.closest(KEY, 8)[-1]
        assert network.result(reader.get("key")) == LARGE
        assert reader.stats.pulls["lost"] >= 1
        assert reader.protocol.transfers.pulls.reserved == 0

    def test_when_no_holder_is_left_the_reader_is_told_so(self) -> None:
        """That the value is missing would be wrong."""
        network = Network()
        servers = network.grow(8, ksize=2)
        assert network.result(servers[0].set("key", LARGE))
        for holder in network.holders(KEY):
            when_asked(network, holder, 20, partial(network.kill, holder))
        reader = network.closest(KEY, 6)[-1]
        self.assertRaises(NoPeersReachable, network.result, reader.fetch("key"))
        assert network.result(reader.get("key")) is None

    def test_a_holder_that_dies_while_it_is_given_the_value_is_not_counted(self) -> None:
        """The others are, and the one that died has kept nothing."""
        network = Network()
        servers = network.grow(8, ksize=4)
        doomed = network.closest(KEY, 4)[1]
        publisher = network.closest(KEY, 8)[-1]
        sent = 0

        def lost(source: Address, target: Address) -> bool:
            nonlocal sent
            sent += source == home(doomed) and target == home(publisher)
            if sent == 20 and doomed in network.servers:
                network.kill(doomed)
            return False

        published = publisher.publish("key", LARGE)
        network.lost = lost
        assert network.result(published).replicas == 3
        assert doomed.storage.get(KEY) is None
        assert set(network.holders(KEY)) == set(network.closest(KEY, 4)) - {network.closest(KEY, 4)[-1]}
        assert servers

    def test_when_the_publisher_dies_nobody_has_a_part_of_it(self) -> None:
        """Nothing was acknowledged; all that was begun is given up."""
        network = Network()
        network.grow(8, ksize=4)
        publisher = network.closest(KEY, 8)[-1]
        when_asked(network, publisher, 60, lambda: network.kill(publisher))
        published = publisher.publish("key", LARGE)
        network.run(30)
        self.failureResultOf(published, NoPeersReachable)
        assert parts_from(network, publisher) >= 60
        assert network.holders(KEY) == []
        assert all(not len(server.protocol.transfers.pulls) for server in network.servers)
        assert all(not server.protocol.transfers.pulls.reserved for server in network.servers)
        assert network.result(network.servers[0].get("key")) is None

    def test_a_holder_restarted_in_the_middle_has_nothing_and_gets_all_of_it(self) -> None:
        """From its durable store no part comes back; from those that hold it the value does."""
        network = Network()
        path = self.mktemp()
        network.grow(4, ksize=4)
        number = 4
        receiver = network.server(number, ksize=4, storage=SQLiteStorage(path))
        network.result(receiver.bootstrap([home(network.servers[0])]))
        publisher = network.servers[0]
        published = publisher.publish("key", LARGE)
        while not any(pull.received for pull in receiver.protocol.transfers.pulls._running.values()):
            network.advance(network.latency)
        network.kill(receiver)
        receiver.storage.close()
        again = network.server(number, ksize=4, storage=SQLiteStorage(path))
        assert again.storage.get(KEY) is None
        assert (again.storage.count, again.storage.size) == (0, 0)
        network.result(again.bootstrap([home(publisher)]))
        network.result(published)
        network.run(5)
        assert {server.storage.get(KEY).value for server in network.closest(KEY, 4)} == {LARGE}  # type: ignore[union-attr]
        again.storage.close()


class Liars(SynchronousTestCase):
    """Holders that send something else."""

    def lies(self) -> dict[str, Callable[[bytes], Any]]:
        """Return what is made of an honest part."""
        return {
            "other bytes": lambda part: bytes(len(part)),
            "one wrong bit": lambda part: part[:-1] + bytes([part[-1] ^ 1]),
            "too short": lambda part: part[:-1],
            "too long": lambda part: part + b"x",
            "empty": lambda _: b"",
            "gone": lambda _: None,
            "text": lambda part: part.decode("latin-1"),
            "nonsense": lambda _: [1, {"a": 2}],
        }

    def lying(self, server: Server, lie: Callable[[bytes], Any]) -> None:
        """Let a peer lie when it is asked for parts."""
        honest = server.protocol._handlers["part"]
        server.protocol._handlers["part"] = lambda *arguments: lie(honest(*arguments))

    def describing(self, server: Server, describe: Callable[[list[Any]], list[Any]]) -> None:
        """Let a peer lie when it is asked for the value."""
        honest = server.protocol._handlers["find_value"]

        def find_value(*arguments: Any) -> Any:
            reply = honest(*arguments)
            return Reply({"parts": describe(list(reply.value["parts"]))}, reply.extension)

        server.protocol._handlers["find_value"] = find_value

    def network_of(self, lying: Callable[[Server], None]) -> tuple[Network, Server]:
        """Return a network all of whose holders but one lie, and a reader."""
        network = Network()
        servers = network.grow(8, ksize=4)
        assert network.result(servers[0].set("key", LARGE))
        for holder in network.closest(KEY, 3):
            lying(holder)
        return network, network.closest(KEY, 8)[-1]

    def test_whatever_a_holder_sends_in_place_of_a_part_another_is_asked(self) -> None:
        """Three of four lie; the reader gets the value from the fourth."""
        for name, lie in self.lies().items():
            network, reader = self.network_of(lambda server, lie=lie: self.lying(server, lie))  # type: ignore[misc]
            steps: list[Step] = []
            found = network.result(ensureDeferred(reader.publisher.fetch(KEY, steps.append)))
            assert found is not None
            assert found.value == LARGE, name
            events = [(step.event, step.contact.id) for step in steps]
            for at, (event, node_id) in enumerate(events):
                assert event != "broken" or ("asked", node_id) not in events[at:]
            assert reader.protocol.transfers.pulls.reserved == 0

    def test_whatever_a_holder_claims_the_value_to_be_another_is_asked(self) -> None:
        """Its size, its digest, or nothing that makes sense; also more than this peer would take."""
        claims: list[Callable[[list[Any]], list[Any]]] = [
            lambda parts: [parts[0] - 1, parts[1]],
            lambda parts: [parts[0] + 1, parts[1]],
            lambda parts: [parts[0] + PART, parts[1]],
            lambda parts: [2 * MAX_SIZE, parts[1]],
            lambda parts: [2**63, parts[1]],
            lambda parts: [-1, parts[1]],
            lambda parts: [parts[0], bytes(32)],
            lambda parts: [parts[0], b""],
            lambda _: [],
            lambda parts: [*parts, 1],
        ]
        for number, claim in enumerate(claims):
            network, reader = self.network_of(lambda server, claim=claim: self.describing(server, claim))  # type: ignore[misc]
            assert network.result(reader.get("key")) == LARGE, number

    def test_when_all_holders_lie_the_reader_gets_nothing_and_is_told_so(self) -> None:
        """What they have is never served."""
        network, reader = self.network_of(lambda server: None)
        for server in network.holders(KEY):
            self.lying(server, lambda part: bytes(len(part)))
        self.assertRaises(NoPeersReachable, network.result, reader.fetch("key"))
        assert reader.storage.get(KEY) is None

    def test_a_liar_is_not_asked_for_that_value_again(self) -> None:
        """Each answer of it may cost a mebibyte."""
        network, reader = self.network_of(lambda server: self.lying(server, lambda part: bytes(len(part))))
        liars = network.closest(KEY, 3)
        network.sent.clear()
        for _ in range(3):
            assert network.result(reader.get("key")) == LARGE
        asked = len(LARGE) // PART + 1
        assert all(parts_from(network, liar) <= asked for liar in liars)
        assert any(parts_from(network, liar) for liar in liars)

    def test_a_newer_version_that_nobody_delivers_does_not_hide_the_value(self) -> None:
        """It is a lie, or its holder is gone; what there is is served."""
        network, reader = self.network_of(lambda server: None)
        liar = network.closest(KEY, 1)[0]
        honest = liar.protocol._handlers["find_value"]

        def find_value(*arguments: Any) -> Any:
            reply = honest(*arguments)
            return Reply({"parts": [MAX_VALUE + 7, bytes(32)]}, {**reply.extension, "v": 2**62, "doubtful": True})

        liar.protocol._handlers["find_value"] = find_value
        assert network.result(reader.get("key")) == LARGE

    def test_what_a_liar_offers_is_never_held(self) -> None:
        """And is refused without being fetched again."""
        network = Network()
        servers = network.grow(6, ksize=3)
        publisher = network.closest(KEY, 6)[-1]
        self.lying(publisher, lambda part: bytes(len(part)))
        self.assertRaises(NoPeersReachable, network.result, publisher.publish("key", LARGE))
        assert network.holders(KEY) == []
        assert len(requests(network, "part")) <= 3 * (len(LARGE) // PART + 1)
        assert sum(server.stats.pulls["mismatch"] for server in servers) == 3


class Names(SynchronousTestCase):
    """What is asked of whom."""

    def test_a_small_value_travels_as_it_always_did(self) -> None:
        """In one store, without a ping, an offer or a part."""
        network = Network()
        servers = network.grow(6, ksize=3)
        network.sent.clear()
        assert network.result(servers[0].set("key", b"x" * (MAX_VALUE - 3)))
        assert network.result(servers[5].get("key")) == b"x" * (MAX_VALUE - 3)
        names = {message_of(datagram) for _, _, datagram in network.sent}
        assert names <= {"find_node", "find_value", "store", None}

    def test_what_a_peer_takes_is_asked_once_and_again_when_it_was_restarted(self) -> None:
        """Another program may answer there then."""
        network = Network()
        first, second = network.grow(2)
        speakers = first.protocol.transfers.speakers
        contact = next(first.table.entries()).contact
        network.sent.clear()
        for number in range(3):
            record = first.publisher.keeper.accept(KEY, LARGE, number + 1, 600)
            assert network.result(first.protocol.store_at(contact, record, "publish")).value is True
            assert speakers.takes(contact, MAX_SIZE)
            assert self.questions(network) == 1
        network.kill(second)
        again = network.server(1)
        network.result(again.bootstrap([home(first)]))
        network.run(2)  # it is handed what it should hold
        assert self.questions(network) == 2
        assert again in network.holders(KEY)

    @staticmethod
    def questions(network: Network) -> int:
        """Return how often somebody was asked what it takes."""
        sent = [decode(datagram) for _, _, datagram in network.sent]
        return sum(m.kind == REQUEST and m.body[0] == "ping" and "p" in m.extension for m in sent)

    def test_a_stock_peer_is_told_of_closer_peers_in_place_of_a_large_value(self) -> None:
        """Its request has no extension; it gets a list of contacts and nothing behind it."""
        network = Network()
        servers = network.grow(4, ksize=4)
        assert network.result(servers[0].set("key", LARGE))
        asked = servers[0].protocol.call(home(servers[1]), "find_value", servers[0].id, KEY)
        answer = network.result(asked)
        assert isinstance(answer.value, list)
        assert len(answer.value) == 2
        assert answer.extension == {}

    def test_values_of_one_who_holds_none_of_them_are_handed_out_while_they_are_offered(self) -> None:
        """However many there are, and no longer."""
        network = Network()
        network.grow(8, ksize=2)
        network.run(1)
        keys = [f"key {number}" for number in range(30)]
        publisher = network.servers[0]
        keys = [key for key in keys if publisher not in network.closest(digest(key), 2)]
        publisher.protocol.transfers.shelf._capacity = 0
        published = [publisher.publish(key, LARGE + key.encode()) for key in keys]
        assert [network.result(one).replicas for one in published] == [2] * len(keys)
        assert len(keys) > 10
        assert publisher.protocol.transfers.shelf._lent == {}

    def test_what_is_known_of_peers_is_bounded(self) -> None:
        """Those learned least recently are forgotten; nonsense is what a stock peer would state."""
        speakers = Speakers()
        contacts = [Contact(digest(number), "10.0.0.1", 1) for number in range(CAPACITY + 10)]
        for contact in contacts:
            speakers.learned(contact, 9_000)
        assert [speakers.known(contact) for contact in contacts] == [False] * 10 + [True] * CAPACITY
        for nonsense in ("9000", None, -1, 2.0, True, [1]):
            speakers.learned(contacts[0], nonsense)
            assert speakers.refuses(contacts[0])
        assert speakers.without_refusers(contacts[:1] + contacts[-1:], 9_000) == contacts[-1:]
        assert speakers.without_refusers(contacts[-1:], 9_001) == []

    def test_a_thorough_lookup_meets_every_holder_but_those_that_are_avoided(self) -> None:
        """Also where it hears of them from others only."""
        network = Network()
        servers = network.grow(60, ksize=4)
        assert network.result(servers[0].set("key", LARGE))
        avoided, *others = network.closest(KEY, 4)
        reader = network.closest(KEY, 60)[-1]
        assert reader.table.get(avoided.id) is None
        crawl = Crawl(reader.protocol, KEY, 4, 3, "find_value")
        crawl.avoided, crawl.thorough = {avoided.id}, True
        network.result(crawl.run())
        assert {found.holder.id for found in crawl.found} == {server.id for server in others}
        assert {found.order[1] for found in crawl.found} == {sha256(encode_value(LARGE))}

    def test_a_lookup_that_fetches_parts_can_be_watched(self) -> None:
        """Which holder gave the value, and which did not."""
        network = Network()
        servers = network.grow(8, ksize=3)
        assert network.result(servers[0].set("key", LARGE))
        first = network.closest(KEY, 2)
        for holder in first:
            holder.protocol._handlers["part"] = lambda *_: None
        trace = network.result(network.closest(KEY, 8)[-1].trace("key"))
        events = [step["event"] for step in trace["steps"]]
        assert events[-1] == "fetched"
        assert set(events) <= {"asked", "answered", "value", "fetched", "broken"}
        assert [step["at"] for step in trace["steps"]] == sorted(step["at"] for step in trace["steps"])
        assert trace["found"] is True
