"""Peers among peers: joining, publishing, reading, and coming back (paper, sections 2.2, 2.3, 2.5)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgpack
from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.trial.unittest import SynchronousTestCase, TestCase

from kademlia.codec import RESPONSE, decode
from kademlia.contact import Contact
from kademlia.crawling import MAX_REQUESTS
from kademlia.errors import (
    BootstrapError,
    ConfigurationError,
    KademliaError,
    ListenError,
    NoPeersReachable,
    QuotaExceeded,
    ValueTooLarge,
)
from kademlia.ids import digest, to_int
from kademlia.intervals import PROFILES
from kademlia.network import MAX_VALUE, Server
from kademlia.records import MAX_SIZE
from kademlia.storage import MemoryStorage
from kademlia.test.virtual import DAY, HOUR, Network, home

if TYPE_CHECKING:
    from kademlia.records import Value


class Joining(SynchronousTestCase):
    """Section 2.3: how a peer comes to know the network, and the network it."""

    def test_a_peer_that_bootstraps_knows_its_neighbourhood_and_is_known_there(self) -> None:
        """Once own subtrees were refreshed, every peer knows its k closest: section 2.5 builds on that."""
        network = Network(latency=0.01)
        network.grow(30, ksize=4)
        network.run(1.2 * HOUR)
        for server in network.servers:
            closest = [peer.id for peer in network.closest(server.id, 5)[1:]]
            known = {neighbour.id for neighbour in server.neighbours()}
            assert set(closest) <= known

    def test_nobody_there_is_an_empty_answer_and_not_an_error(self) -> None:
        """The caller may try again later."""
        network = Network()
        server = network.server(0)
        assert network.result(server.bootstrap([("10.9.9.9", 1)])) == []

    def test_dead_bootstrap_peers_hold_nobody_up(self) -> None:
        """A restarted peer is back at once, though half of its bootstrap peers are down."""
        network = Network()
        server = network.grow(3)[0]
        newcomer = network.server(9)
        started = network.seconds()
        reached = network.result(newcomer.bootstrap([("10.9.9.9", 1), home(server), ("10.9.9.8", 1)]))
        assert reached == [home(server)]
        assert network.seconds() - started < 0.1

    def test_a_peer_that_bootstraps_from_itself_does_not_know_itself(self) -> None:
        """Everyone has the same list of bootstrap peers, the bootstrap peers too."""
        network = Network()
        server = network.server(0)
        assert network.result(server.bootstrap([home(server)])) == []
        assert server.contact_count == 0

    def test_names_and_impossible_ports_are_refused_at_once(self) -> None:
        """kademlia 2.2.3 fails in the middle of sending."""
        server = Network().server(0)
        for address in [("localhost", 1), ("10.0.0.1", 0), ("10.0.0.1", 65536), ("0.0.0.0", 1), ("", 1)]:  # noqa: S104
            self.assertRaises(BootstrapError, server.bootstrap, [address])

    def test_what_is_no_list_of_pairs_is_refused_at_once(self) -> None:
        """A string, one pair, a triple: what one is tempted to pass; nobody is asked then."""
        server = Network().server(0)
        pair = ("10.0.0.1", 1)
        bad: list[Any] = ["10.0.0.1:1", b"10.0.0.1", pair, [(*pair, 2)], [pair, None], None, 1, ["ab"], [pair, {}]]
        for addresses in bad:
            error = self.assertRaises(BootstrapError, server.bootstrap, addresses)
            assert "list of pairs of an IP address and a UDP port" in str(error)
        assert not server.stats.rpcs
        assert server.contact_count == 0

    def test_neighbours_are_listed_closest_first(self) -> None:
        """With the distance to each, and how long ago it spoke."""
        network = Network()
        server = network.grow(10)[0]
        neighbours = server.neighbours()
        assert [n.distance for n in neighbours] == sorted(n.distance for n in neighbours)
        assert all(to_int(n.distance) == to_int(n.id) ^ to_int(server.id) for n in neighbours)
        assert all(n.last_seen >= 0 for n in neighbours)

    def test_peers_tell_each_other_where_they_are_seen(self) -> None:
        """`stun` is how a peer behind a translator learns its address."""
        network = Network()
        server = network.grow(4)[2]
        assert network.result(server.inet_visible_ip()) == home(server)[0]


class Publishing(SynchronousTestCase):
    """Section 2.3: storing pairs."""

    def test_a_value_is_stored_at_exactly_the_k_closest_peers(self) -> None:
        """The publisher counts as one of them where it is one."""
        network = Network()
        servers = network.grow(40, ksize=5)
        for number in range(20):
            key = digest(f"key {number}")
            published = network.result(servers[number].publish(f"key {number}", b"v"))
            assert published.replicas == published.asked == 5
            assert set(network.holders(key)) == set(network.closest(key, 5))

    def test_it_is_stored_at_the_closest_live_peers_when_others_are_dead(self) -> None:
        """Dead peers neither count nor hold up: seconds, not the five per round of kademlia 2.2.3."""
        network = Network()
        network.grow(40, ksize=5)
        for server in network.servers[1:13]:
            network.kill(server)
        started = network.seconds()
        published = network.result(network.servers[0].publish("key", b"v"))
        assert published.replicas == 5
        assert set(network.holders(digest("key"))) == set(network.closest(digest("key"), 5))
        assert network.seconds() - started < 5.0

    def test_it_reaches_k_holders_at_once_although_everybody_names_the_dead(self) -> None:
        """A moment after half of the network died nobody has noticed, and all peers name the same closest ones."""
        network = Network()
        network.grow(40, ksize=8)
        for server in network.servers[1::2]:
            network.kill(server)
        started = network.seconds()
        for number in range(5):
            published = network.result(network.servers[number].publish(f"key {number}", b"v"))
            assert published.replicas == 8
        assert network.seconds() - started < 10.0

    def test_a_lookup_among_the_dead_comes_to_an_end(self) -> None:
        """Anybody can fill a table with contacts that do not exist: not all of them are tried."""
        network = Network()
        server = network.server(0, ksize=4, id=bytes(20))
        for number in range(1, 200):
            server.protocol.heard_from(Contact(digest(number), "10.9.9.9", number))
        assert len(server.table) > 60
        crawl = server.publisher.crawl(digest("key"))
        network.result(crawl.run())
        assert 4 < crawl.lookup.requests <= 4 * (MAX_REQUESTS + 2)

    def test_a_slow_peer_is_given_the_value_although_nobody_waits_for_it(self) -> None:
        """Section 2.3 takes it out of consideration, but it is one of the k closest, and may only be busy."""
        network = Network()
        network.grow(12, ksize=4)
        slow, *others = network.closest(digest("key"), 12)
        started = network.seconds()
        network.lost = lambda source, target: target == home(slow) and network.seconds() < started + 0.3
        published = network.result(others[-1].publish("key", b"v"))
        assert published.replicas == 4
        assert network.seconds() < started + 0.3
        network.run(0.5)
        assert slow in network.holders(digest("key"))

    def test_setting_without_anybody_there_is_not_reported_as_success(self) -> None:
        """kademlia 2.2.3 answers True for a `set` that nobody acknowledged."""
        network = Network()
        network.grow(2)
        network.kill(network.servers[1])
        assert network.result(network.servers[0].set("key", b"v")) is False
        self.assertRaises(NoPeersReachable, network.result, network.servers[0].publish("key", b"v"))
        lone = Network()
        assert lone.result(lone.server(0).set("key", b"v")) is False

    def test_values_that_cannot_be_stored_are_refused_before_anything_is_sent(self) -> None:
        """Larger than the peer was told to take, or of a type that rpcudp does not carry."""
        network = Network()
        server = network.grow(2)[0]
        before = len(network.sent)
        too_large: list[Value] = [b"x" * (MAX_SIZE + 1), "é" * (MAX_SIZE // 2 + 1), 2**64, -(2**63) - 1, "\ud800"]
        for value in too_large:
            self.assertRaises(ValueTooLarge, network.result, server.publish("key", value))
        no_values: list[Any] = [None, [1], {"a": 1}]
        for value in no_values:
            self.assertRaises(TypeError, network.result, server.publish("key", value))
        assert len(network.sent) == before

    def test_the_largest_value_fits_into_a_message_that_rpcudp_would_send(self) -> None:
        """Its limit is 8192 bytes of name and arguments."""
        network = Network()
        server = network.grow(2)[0]
        assert network.result(server.set("key", b"x" * (MAX_VALUE - 3)))
        body = max((decode(d).body for _, _, d in network.sent), key=lambda body: len(str(body)))
        assert len(__import__("umsgpack").packb(body)) == 8192
        assert network.result(network.servers[1].get("key")) == b"x" * (MAX_VALUE - 3)

    def test_when_every_holder_is_full_the_publisher_is_told_so(self) -> None:
        """And a full holder goes on serving what it has."""
        network = Network()
        for number in range(3):
            network.server(number, storage=MemoryStorage(max_keys=1))
        for server in network.servers[1:]:
            network.result(server.bootstrap([home(network.servers[0])]))
        assert network.result(network.servers[0].set("one", b"1"))
        self.assertRaises(QuotaExceeded, network.result, network.servers[0].publish("two", b"2"))
        assert network.result(network.servers[1].get("one")) == b"1"

    def test_a_publisher_whose_clock_is_behind_still_replaces_the_value(self) -> None:
        """An acknowledged write is never silently older than what it replaced."""
        network = Network()
        servers = network.grow(10, ksize=3)
        key = digest("key")
        fast, slow = [server for server in servers if server not in network.closest(key, 3)][:2]
        fast.publisher.keeper.wall = lambda: network.wall() + DAY
        network.result(fast.publish("key", b"first"))
        network.result(slow.publish("key", b"second"))
        assert {server.storage.get(key).value for server in network.holders(key)} == {b"second"}  # type: ignore[union-attr]

    def test_every_type_of_value_comes_back_as_it_was(self) -> None:
        """Those that the stock implementation accepts."""
        network = Network()
        servers = network.grow(5)
        values: list[Value] = [b"\x00\xff", "tëxt", 0, -1, 2**63, 1.5, True, False, b"", ""]
        for number, value in enumerate(values):
            assert network.result(servers[1].set(number, value))
            found = network.result(servers[2].get(number))
            assert (found, type(found)) == (value, type(value))


class Reading(SynchronousTestCase):
    """Section 2.3: finding pairs."""

    def test_a_missing_key_is_none(self) -> None:
        """After asking the k closest."""
        network = Network()
        assert network.result(network.grow(10)[3].get("nothing")) is None

    def test_silence_of_all_known_peers_is_not_mistaken_for_a_missing_key(self) -> None:
        """`fetch` fails; `get`, as the library's users know it, answers None."""
        network = Network()
        server = network.grow(3)[0]
        network.kill(network.servers[2])
        network.kill(network.servers[1])
        self.assertRaises(NoPeersReachable, network.result, server.fetch("key"))
        assert network.result(server.get("key")) is None

    def test_a_lookup_ends_with_the_first_value(self) -> None:
        """Not when everyone who was asked has answered: the dead are not waited for."""
        network = Network()
        servers = network.grow(30, ksize=8)
        key = digest("key")
        assert network.result(servers[0].set("key", b"v"))
        network.kill(network.closest(key, 1)[0])
        reader = network.closest(key, 30)[-1]
        started = network.seconds()
        assert network.result(reader.get("key")) == b"v"
        assert network.seconds() - started < 1.0

    def test_a_lookup_can_be_watched_step_by_step(self) -> None:
        """Whom it asked, what they answered, how far they are, how long it took."""
        network = Network()
        servers = network.grow(30, ksize=4)
        key = digest("key")
        assert network.result(servers[0].set("key", b"v"))
        reader = network.closest(key, 30)[-1]
        trace = network.result(reader.trace("key"))
        assert json.loads(json.dumps(trace)) == trace
        assert (trace["found"], trace["target"]) == (True, key.hex())
        events = [step["event"] for step in trace["steps"]]
        assert events.count("asked") == trace["requests"]
        assert events[-1] == "value"
        assert trace["steps"][-1]["id"] in [holder.id.hex() for holder in network.closest(key, 4)]
        assert [step["at"] for step in trace["steps"]] == sorted(step["at"] for step in trace["steps"])
        missing = network.result(reader.trace("missing"))
        assert (missing["found"], missing["version"]) == (False, None)
        assert {step["event"] for step in missing["steps"]} == {"asked", "answered"}

    def test_a_found_value_is_cached_at_the_closest_peer_without_it(self) -> None:
        """Among the k closest that repairs a replica at once."""
        network = Network()
        servers = network.grow(20, ksize=4)
        repaired = 0
        for number in range(20):
            key = digest(f"key {number}")
            assert network.result(servers[0].set(f"key {number}", b"v"))
            closest = network.closest(key, 4)
            for server in closest[:2]:
                server.storage.delete(key)
            found = network.result(network.closest(key, 20)[-1].fetch(f"key {number}"))
            network.run(1)
            assert found is not None
            assert found.hops >= 1
            repaired += sum(server in network.holders(key) for server in closest) > 2
        assert repaired > 10  # it is not, where the first peer asked had the value

    def test_a_cached_copy_far_away_lives_shorter_than_the_pair(self) -> None:
        """Its life falls exponentially with the number of peers in between."""
        network = Network()
        network.grow(40, ksize=2)
        for number in range(60):
            key = digest(f"key {number}")
            network.result(network.closest(key, 40)[0].set(f"key {number}", b"v"))
            reader = network.closest(key, 40)[-1]
            network.result(reader.get(f"key {number}"))
        network.run(1)
        far = 0
        for number in range(60):
            key = digest(f"key {number}")
            ranked = network.closest(key, 40)
            for holder in network.holders(key):
                rank = ranked.index(holder)
                record = holder.storage.get(key)
                assert record is not None
                if rank >= 2:
                    assert record.expires_at - network.wall() < DAY + 1
                    far += record.expires_at - network.wall() < DAY / 2 + 1
        assert far > 0

    def test_hostile_answers_do_not_end_a_lookup(self) -> None:
        """Nonsense counts as no answer; contacts that cannot be contacted are passed over."""
        network = Network()
        servers = network.grow(6, ksize=3)
        nonsense = [
            None,
            5,
            "text",
            {"value": None},
            {"value": [1]},
            {},
            [None, [1, 2], [b"x", "h", 1]],
            [[b"a" * 20]],
        ]
        answers = iter(nonsense * 100)
        for hostile in servers[1:4]:
            hostile.protocol._handlers["find_value"] = lambda sender, *args: next(answers)
        servers[5].publisher.keeper.accept(digest("key"), b"v", 1, DAY)
        for _ in range(20):
            servers[0].storage.delete(digest("key"))
            assert network.result(servers[0].get("key")) in (b"v", None)
        assert self.flushLoggedErrors() == []


class Faithful(SynchronousTestCase):
    """Details of the protocol."""

    def test_find_node_does_not_name_the_caller(self) -> None:
        """It knows itself."""
        network = Network()
        servers = network.grow(5)
        asked = msgpack.unpackb(servers[0].protocol.rpc_find_node(home(servers[1]), servers[1].id, digest("x")))
        assert servers[1].id not in [node_id for node_id, _, _ in asked]
        assert len(asked) == 3

    def test_rpc_ids_are_160_random_bits(self) -> None:
        """Section 2.3: an answer cannot be guessed."""
        network = Network()
        network.grow(5)
        ids = [decode(datagram).rpc_id for _, _, datagram in network.sent if datagram[0] != RESPONSE]
        assert len(set(ids)) == len(ids)
        assert all(len(rpc_id) == 20 for rpc_id in ids)

    def test_a_contact_whose_address_is_claimed_by_another_id_is_found_out(self) -> None:
        """The answer to a ping names who answers."""
        network = Network()
        first, second = network.grow(2)
        network.kill(second)
        network.server(1, id=digest("somebody else"))
        first.protocol.probe(first.table.closest(0, 1)[0])
        network.run(1)
        assert second.id not in [neighbour.id for neighbour in first.neighbours()]

    def test_impossible_parameters_are_refused(self) -> None:
        """Before anything is started."""
        sizes = ({"max_value": 8191}, {"max_value": (16 << 20) + 1})
        bad: list[dict[str, Any]] = [{"ksize": 0}, {"alpha": 0}, {"id": b"short"}, *sizes]
        # Of the wrong type: the same error, and not whatever Python says where it first disturbs.
        bad += [{name: value} for name in ("ksize", "alpha", "max_value") for value in ("20", 20.5, True, None)]
        bad += [{"intervals": None}, {"intervals": {"refresh": 1.0}}, {"id": "x" * 20}, {"id": 1}]
        for parameters in bad:
            error = self.assertRaises(ConfigurationError, Server, reactor=Network(), **parameters)
            assert next(iter(parameters)).replace("id", "a node ID") in str(error)

    def test_the_profiles_have_the_ratios_of_the_paper(self) -> None:
        """1 : 1 : 24 : 24."""
        for intervals in PROFILES.values():
            unit = intervals.replicate
            assert (intervals.refresh, intervals.republish, intervals.expire) == (unit, 24 * unit, 24 * unit)


class RealSockets(TestCase):
    """The same on a real reactor and loopback."""

    @inlineCallbacks
    def test_two_peers_over_udp(self):  # type: ignore[no-untyped-def]  # an inlineCallbacks test
        """One by `listen`, one by handing its protocol to the reactor."""
        first, second = Server(), Server()
        yield first.listen(0, "127.0.0.1")
        port = reactor.listenUDP(0, second.protocol, interface="127.0.0.1")
        try:
            where = home(first)
            assert (yield second.bootstrap([where])) == [where]
            assert (yield second.set("key", b"x" * 8000))
            assert (yield first.get("key")) == b"x" * 8000
            error = self.assertRaises(ListenError, Server().listen, where[1], "127.0.0.1")
            assert isinstance(error, KademliaError)
        finally:
            yield first.stop()
            yield second.stop()
            yield port.stopListening()
