"""What keeps large values alive and fresh: the same work as for all others, and no part moved twice."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING

import msgpack
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kademlia.codec import HEADER, REQUEST, decode
from kademlia.ids import digest
from kademlia.parts import MAX_VALUE, PART
from kademlia.sqlite_store import SQLiteStorage
from kademlia.storage import MemoryStorage, ends
from kademlia.test.virtual import DAY, HOUR, Address, Network, home, requests

if TYPE_CHECKING:
    from kademlia.network import Server
    from kademlia.records import Value
    from kademlia.storage import Storage

KEY = digest("key")
LARGE = bytes(range(256)) * 200
OTHER = LARGE[::-1]
SMALL = b"small"


def values(network: Network, servers: list[Server]) -> set[Value | None]:
    """Return what some peers hold."""
    held = [server.publisher.keeper.get(KEY) for server in servers]
    return {None if record is None else record.value for record in held}


class Fresh(SynchronousTestCase):
    """The later publication wins, whatever the sizes."""

    def test_large_and_small_values_replace_each_other(self) -> None:
        """At every holder, and to every reader."""
        network = Network()
        servers = network.grow(8, ksize=3)
        for number, value in enumerate((LARGE, SMALL, OTHER, LARGE, SMALL)):
            assert network.result(servers[number].set("key", value))
            assert values(network, network.closest(KEY, 3)) == {value}
            assert {network.result(server.get("key")) for server in servers} == {value}

    def test_replaced_large_values_are_not_remembered(self) -> None:
        """Replaced small ones are, to recognise stock holders that repeat them; those never have a large one."""
        keeper = Network().server(0).publisher.keeper
        for version, value in enumerate((SMALL, LARGE, OTHER, SMALL), start=1):
            keeper.accept(KEY, value, version, DAY)
        assert keeper._replaced == {KEY: bytes(msgpack.packb(SMALL))}

    def test_across_a_partition_the_newer_one_wins_whichever_is_large(self) -> None:
        """Those that were cut off notice, doubt what they have and take over what is newer."""
        for old, new in ((LARGE, SMALL), (SMALL, LARGE), (LARGE, OTHER)):
            network = Network(latency=0.01)
            servers = list(network.grow(6, ksize=6))
            assert network.result(servers[0].set("key", old))
            cut = {home(server) for server in servers[:2]}
            network.lost = lambda source, target, cut=cut: (source in cut) is not (target in cut)  # type: ignore[misc]
            network.run(60)
            assert network.result(servers[4].set("key", new))
            cut.clear()
            network.run(40)
            assert values(network, servers) == {new}
            assert {network.result(server.get("key")) for server in servers} == {new}

    def test_a_reader_of_doubtful_values_fetches_the_newest_only(self) -> None:
        """Their versions are compared by what holders say of them; the older holder is given the newer one."""
        network = Network(latency=0.01)
        network.grow(8, ksize=3)
        network.run(1.2 * HOUR)
        holders = network.closest(KEY, 3)
        for number, holder in enumerate(holders):
            value = OTHER if number == 1 else LARGE
            holder.publisher.keeper.accept(KEY, value, 7 + (number == 1), DAY)
            holder.publisher.keeper.doubted_before = network.wall() + 1
        reader = network.closest(KEY, 8)[-1]
        assert network.result(reader.get("key")) == OTHER
        assert reader.stats.pulls == {"whole": 1}
        network.run(2)
        assert values(network, holders) == {OTHER}

    @settings(max_examples=30, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.integers(1, 2), st.builds(bytes.__add__, st.sampled_from((SMALL, LARGE)), st.binary(max_size=2))
            ),
            min_size=2,
            max_size=3,
        )
    )
    def test_concurrent_publications_end_alike_at_every_peer_in_whatever_order(
        self, publications: list[tuple[int, bytes]]
    ) -> None:
        """Equal versions are ordered by digest, which is known of a large value before it is fetched."""
        network = Network()
        source, *receivers = network.grow(4, ksize=3)
        ends = set()
        for receiver, order in zip(receivers * 2, permutations(publications), strict=False):
            receiver.storage.delete(KEY)
            for version, value in order:
                source.storage.delete(KEY)
                record = source.publisher.keeper.accept(KEY, value, version, DAY)
                contact = next(e.contact for e in source.table.entries() if e.contact.id == receiver.id)
                assert network.result(source.protocol.store_at(contact, record, "publish")).value is True
            held = receiver.storage.get(KEY)
            assert held is not None
            ends.add((held.version, held.value))
        assert len(ends) == 1


class Kept(SynchronousTestCase):
    """Replicating, republishing, handing over and caching."""

    def test_replicas_of_dead_holders_are_made_anew_and_a_further_round_moves_no_part(self) -> None:
        """Within the interval; what the others hold already they are only told of."""
        network = Network(latency=0.01)
        servers = network.grow(12, ksize=4)
        assert network.result(servers[0].set("key", LARGE))
        for server in network.closest(KEY, 4)[:3]:
            network.kill(server)
        assert len(network.holders(KEY)) == 1
        network.run(1.5 * HOUR)
        assert set(network.closest(KEY, 4)) <= set(network.holders(KEY))
        network.sent.clear()
        network.run(2.5 * HOUR)
        assert requests(network, "offer")
        assert requests(network, "part") == []
        assert len({source for source, _ in requests(network, "offer")}) <= 3  # section 2.5: not by all holders

    def test_its_publisher_keeps_it_alive_and_without_it_it_expires(self) -> None:
        """Over days; for as long as others hold it, that moves no part."""
        network = Network(latency=0.01)
        network.grow(6, ksize=3)
        publisher = network.closest(KEY, 6)[-1]
        assert network.result(publisher.set("key", LARGE))
        network.sent.clear()
        network.run(0.9 * DAY)
        assert requests(network, "offer")
        assert requests(network, "part") == []
        network.run(1.6 * DAY)
        assert set(network.closest(KEY, 3)) <= set(network.holders(KEY))
        network.kill(publisher)
        network.run(1.2 * DAY)
        assert network.holders(KEY) == []

    def test_a_joining_peer_is_handed_what_it_should_hold(self) -> None:
        """Large or not."""
        network = Network(latency=0.01)
        servers = network.grow(8, ksize=3)
        network.run(1.2 * HOUR)
        for number in range(12):
            assert network.result(servers[0].set(f"key {number}", LARGE + b"%d" % number))
        network.grow(4, ksize=3)
        network.run(5)
        keys = [digest(f"key {number}") for number in range(12)]
        newcomers = [
            (key, peer) for key in keys for peer in network.closest(key, 3) if peer in network.servers[8:]
        ]
        assert newcomers
        assert all(peer in network.holders(key) for key, peer in newcomers)

    def test_a_holder_that_could_not_be_given_it_gets_it_when_it_is_heard_from_again(self) -> None:
        """Its publisher kept it for that."""
        network = Network()
        servers = network.grow(4, ksize=4)
        cut = {home(servers[3])}
        network.lost = lambda source, target: bool(cut & {source, target})
        assert network.result(servers[0].set("key", LARGE))
        cut.clear()
        network.run(6)
        assert values(network, servers) == {LARGE}

    def test_what_is_kept_for_unreachable_holders_is_bounded_in_bytes(self) -> None:
        """A thousand values of a mebibyte would be a gibibyte."""
        network = Network()
        server = network.grow(2)[0]
        contact = next(server.table.entries()).contact
        for number in range(60):
            record = server.publisher.keeper.accept(digest(number), bytes(1 << 20), 1, DAY)
            server.handover.missed.add(contact._replace(id=digest(number % 7)), record)
        missed = [r for waiting in server.handover.missed.waiting.values() for r in waiting.records.values()]
        assert sum(record.size for record in missed) == server.handover.missed.bytes <= 32 << 20
        assert len(missed) == server.handover.missed.count > 0

    def test_a_found_value_is_cached_at_the_closest_peer_without_it(self) -> None:
        """Which among the k closest repairs a replica."""
        network = Network()
        servers = network.grow(20, ksize=4)
        repaired = 0
        for number in range(10):
            key = digest(f"key {number}")
            assert network.result(servers[0].set(f"key {number}", LARGE))
            for server in network.closest(key, 2):
                server.storage.delete(key)
            assert network.result(network.closest(key, 20)[-1].get(f"key {number}")) == LARGE
            network.run(1)
            repaired += sum(server in network.holders(key) for server in network.closest(key, 4)) > 2
        assert repaired > 3  # it is not, where the first peer asked had the value

    def test_a_page_of_a_store_ends_early_where_values_are_large(self) -> None:
        """And all of them are read in the end."""
        stores: list[Storage] = [MemoryStorage(), SQLiteStorage(self.mktemp())]
        for storage in stores:
            self.addCleanup(storage.close)
            keeper = Network().server(0, storage=storage).publisher.keeper
            for number in range(10):
                keeper.accept(digest(number), bytes(1 << 20), 1, DAY)
            pages = [storage.page(None, 100)]
            while not ends(pages[-1], 100):
                pages.append(storage.page(pages[-1][-1].key, 100))
            assert [len(page) for page in pages] == [4, 4, 2]
            assert [record.key for page in pages for record in page] == sorted(map(digest, range(10)))


class StockPeers(SynchronousTestCase):
    """Peers that know neither offers nor parts nor extensions."""

    def setUp(self) -> None:
        self.network = Network()
        #: what was asked of stock peers
        self.asked: list[str] = []
        self.stock: set[Address] = set()

    def grow(self, ours: int, stock: int, ksize: int) -> list[Server]:
        """Grow a network of both kinds; return ours."""
        for number in range(ours + stock):
            server = self.network.server(number, ksize=ksize)
            if (number + 1) * stock % (ours + stock) < stock:  # evenly mixed; the first one is ours
                self.make_stock(server)
            if number:
                assert self.network.result(server.bootstrap([home(self.network.servers[0])]))
        assert (len(self.ours()), len(self.stock)) == (ours, stock)
        return self.ours()

    def ours(self) -> list[Server]:
        """Return the peers that are no stock peers."""
        return [server for server in self.network.servers if home(server) not in self.stock]

    def make_stock(self, server: Server) -> None:
        """Make a peer deaf and dumb to what a stock peer does not know."""
        protocol, network = server.protocol, self.network
        self.stock.add(home(server))
        received = protocol.datagramReceived

        def plain(datagram: bytes) -> bytes:
            body = decode(datagram).body
            return datagram[:HEADER] + bytes(msgpack.packb(body))

        def hear(datagram: bytes, address: Address) -> None:
            message = decode(datagram)
            if message.kind == REQUEST:
                self.asked.append(message.body[0])
            received(plain(datagram), address)

        protocol.datagramReceived = hear  # type: ignore[method-assign,assignment]
        port = network.ports[home(server)]
        port.write = lambda datagram, address: network.send(plain(datagram), port.address, address)  # type: ignore[method-assign]
        for name in ("offer", "part"):
            del protocol._handlers[name]

    def test_the_k_closest_that_take_a_large_value_get_it_and_all_of_ours_read_it(self) -> None:
        """Although half of the peers, and often all of the k closest, are stock peers."""
        ours = self.grow(ours=12, stock=12, ksize=4)
        for number in range(30):
            published = self.network.result(ours[number % 12].publish(f"key {number}", LARGE + b"%d" % number))
            assert published.replicas == published.asked == 4
            for reader in ours:
                assert self.network.result(reader.get(f"key {number}")) == LARGE + b"%d" % number
        assert not {"offer", "part"} & set(self.asked)

    def test_a_stock_peer_that_should_be_given_a_large_value_is_only_asked_what_it_takes(self) -> None:
        """It is there and does not take it, which is no failure of either."""
        (ours,) = self.grow(ours=1, stock=1, ksize=4)
        record = ours.publisher.keeper.accept(KEY, LARGE, 5, DAY)
        contact = next(ours.table.entries()).contact
        for _ in range(2):
            answer = self.network.result(ours.protocol.store_at(contact, record, "publish"))
            assert (answer.happened, answer.value) == (True, False)
        self.network.run(1)
        assert self.asked.count("ping") == 1
        assert not {"offer", "part"} & set(self.asked)

    def test_fewer_than_k_that_take_it_are_enough(self) -> None:
        """Every one of them holds it then."""
        ours = self.grow(ours=3, stock=9, ksize=6)
        published = self.network.result(ours[1].publish("key", LARGE))
        assert published.replicas == published.asked == 3
        assert {self.network.result(reader.get("key")) for reader in ours} == {LARGE}

    def test_a_found_value_is_cached_at_the_closest_peer_that_takes_it(self) -> None:
        """Stock peers in between are no hindrance."""
        ours = self.grow(ours=12, stock=12, ksize=4)
        repaired = 0
        for number in range(20):
            key = digest(f"key {number}")
            assert self.network.result(ours[0].set(f"key {number}", LARGE))
            first = next(server for server in self.network.closest(key, 24) if server in self.network.holders(key))
            first.storage.delete(key)
            reader = next(s for s in self.network.closest(key, 24)[::-1] if home(s) not in self.stock)
            assert self.network.result(reader.get(f"key {number}")) == LARGE
            self.network.run(1)
            repaired += first in self.network.holders(key)
        assert repaired > 16  # it is not, where the first peer asked had the value

    def test_stock_peers_see_no_large_value_and_are_not_suspected(self) -> None:
        """They are told of closer peers; small values they see as ever."""
        ours = self.grow(ours=6, stock=6, ksize=4)
        assert self.network.result(ours[0].set("large", LARGE))
        assert self.network.result(ours[0].set("small", SMALL))
        self.network.run(2.5 * HOUR)
        for server in self.network.servers:
            if home(server) in self.stock:
                assert self.network.result(server.get("large")) is None
                assert self.network.result(server.get("small")) == SMALL
        assert not {"offer", "part"} & set(self.asked)
        assert all(not entry.suspect for server in ours for entry in server.table.entries())
        assert all(server.stats.dropped["unknown method"] == 0 for server in self.network.servers)

    def test_replicas_of_dead_holders_are_made_anew_among_stock_peers(self) -> None:
        """At the next closest that take it."""
        self.grow(ours=12, stock=12, ksize=4)
        assert self.network.result(self.ours()[0].set("key", LARGE))
        for server in self.network.holders(KEY)[:3]:
            self.network.kill(server)
        self.network.run(2.5 * HOUR)
        assert len(self.network.holders(KEY)) >= 4
        assert not {"offer", "part"} & set(self.asked)

    def test_a_small_value_of_a_stock_peer_replaces_a_large_one(self) -> None:
        """It gets a version where a holder had one, as with all values."""
        ours = self.grow(ours=6, stock=2, ksize=8)
        assert self.network.result(ours[0].set("key", LARGE))
        stock = next(server for server in self.network.servers if home(server) in self.stock)
        assert self.network.result(stock.set("key", SMALL))
        assert {self.network.result(reader.get("key")) for reader in self.network.servers} == {SMALL}

    def test_no_value_that_a_stock_peer_could_not_have_sent_is_taken_in_one_datagram(self) -> None:
        """rpcudp sends no request of more than 8192 bytes; larger values have a version, a name and an offer."""
        server = self.network.grow(2)[0]
        other = self.network.servers[1]
        for size in (MAX_VALUE - 3, MAX_VALUE - 2, 5 * PART):
            other.protocol.call(home(server), "store", other.id, digest(size), bytes(size))
        self.network.run(3)
        assert [size for size in (MAX_VALUE - 3, MAX_VALUE - 2, 5 * PART) if server.storage.get(digest(size))] == [
            MAX_VALUE - 3
        ]
