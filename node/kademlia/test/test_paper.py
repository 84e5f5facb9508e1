"""Rows of the paper that no other test shows; docs/paper.md lists them all (Maymounkov and Mazières, 2002)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import ensureDeferred
from twisted.trial.unittest import SynchronousTestCase

from kademlia.codec import REQUEST, decode
from kademlia.contact import Contact
from kademlia.ids import ID_BITS, ID_BYTES, digest, to_bytes, to_int
from kademlia.intervals import PROFILES
from kademlia.routing import MAX_FAILURES, RoutingTable
from kademlia.test.virtual import Address, Network, home

if TYPE_CHECKING:
    from kademlia.network import Server

#: the paper's hour at the speed of the profile "lab", which the virtual network's peers have
HOUR = PROFILES["lab"].replicate

identifiers = st.integers(0, 2**ID_BITS - 1)


def contact_of(server: Server) -> Contact:
    """Return a peer as others know it."""
    return Contact(server.id, *home(server))


def requests(network: Network, name: str) -> list[tuple[Address, Address, Any]]:
    """Return source, target and arguments of every distinct request of that name sent so far."""
    found = {}
    for source, target, datagram in network.sent:
        message = decode(datagram)
        if message.kind == REQUEST and message.body[0] == name:
            found[message.rpc_id] = (source, target, message.body[1])
    return list(found.values())


class Metric(SynchronousTestCase):
    """Section 2.1: 160-bit identifiers and the XOR metric."""

    @given(identifiers, identifiers, identifiers)
    def test_xor_is_a_metric_and_unidirectional(self, x: int, y: int, z: int) -> None:
        """Nothing but itself is at distance 0; symmetric; triangles; one point only at each distance."""
        assert (x ^ y == 0) is (x == y)
        assert x ^ y == y ^ x
        assert x ^ z <= (x ^ y) + (y ^ z)
        assert [x ^ (x ^ y)] == [y]

    @given(identifiers)
    def test_identifiers_are_160_bits_in_20_bytes(self, number: int) -> None:
        """Keys and node IDs alike; integers and bytes are two spellings of one identifier."""
        assert len(digest(number)) == ID_BYTES == len(to_bytes(number))
        assert to_int(to_bytes(number)) == number

    def test_pairs_are_held_by_the_closest_whoever_publishes(self) -> None:
        """The publisher counts itself in by the same metric."""
        network = Network(latency=0.01)
        servers = list(network.grow(10, ksize=3))
        for number, server in enumerate(servers):
            for key in (f"{number} {attempt}" for attempt in range(4)):
                assert network.result(server.set(key, b"v"))
                self.assertEqual(set(network.holders(digest(key))), set(network.closest(digest(key), 3)))

    def test_peers_rank_each_other_by_the_metric(self) -> None:
        """What a whole network agrees on when it stores a pair."""
        network = Network(latency=0.01)
        servers = list(network.grow(12, ksize=3))
        for key in map(digest, range(10)):
            truth = [server.id for server in network.closest(key, 3)]
            for server in (servers[0], servers[-1]):
                crawl = server.publisher.crawl(key)
                network.result(crawl.run())
                found = sorted(
                    [*(c.id for c in crawl.lookup.closest()), server.id], key=lambda i: to_int(i) ^ to_int(key)
                )
                assert found[:3] == truth


class Seen(SynchronousTestCase):
    """Section 2.2: any message moves its sender to the tail of its bucket; kademlia 2.2.3 moves nobody."""

    def setUp(self) -> None:
        self.network = Network(latency=0.01)
        self.servers = [self.network.server(number, ksize=8) for number in range(4)]
        self.first = self.servers[0]
        for server in self.servers[1:]:
            self.first.protocol.heard_from(contact_of(server))

    def order(self) -> list[bytes]:
        """Return the contacts of the first peer, least recently seen first."""
        return [entry.contact.id for entry in self.first.table.entries()]

    def oldest(self) -> Server:
        """Return the peer that the first one saw least recently."""
        return next(server for server in self.servers if server.id == self.order()[0])

    def test_every_request_moves_its_sender_to_the_tail(self) -> None:
        """PING, STORE, FIND_NODE and FIND_VALUE."""
        for name, *arguments in (
            ("ping",),
            ("store", bytes(20), b"v"),
            ("find_node", bytes(20)),
            ("find_value", bytes(20)),
        ):
            sender = self.oldest()
            self.network.result(sender.protocol.call(home(self.first), name, sender.id, *arguments))
            self.assertEqual(self.order()[-1], sender.id, name)

    def test_every_answer_moves_its_sender_to_the_tail(self) -> None:
        """Those of a ping, and of a lookup's questions."""
        asked = self.oldest()
        self.first.protocol.probe(contact_of(asked))
        self.network.run(1)
        self.assertEqual(self.order()[-1], asked.id)
        for name in ("find_node", "find_value"):
            asked = self.oldest()
            self.network.result(self.first.protocol.ask(contact_of(asked), name, bytes(20)))
            self.assertEqual(self.order()[-1], asked.id, name)


class FullBucket(SynchronousTestCase):
    """Section 2.2: a newcomer to a full bucket makes the least recently seen contact be pinged."""

    def test_each_newcomer_has_another_contact_pinged_and_all_that_answer_stay(self) -> None:
        """kademlia 2.2.3 pings the same one for ever: an answer does not move it to the tail there."""
        network = Network(latency=0.01)
        own = network.server(0, id=bytes(20), ksize=2)
        own.table.bits = 1  # far buckets are not split
        near, *far = [
            network.server(1 + number, id=to_bytes(identifier), ksize=2)
            for number, identifier in enumerate((1, *((1 << 159) + number for number in range(5))))
        ]
        own.protocol.heard_from(contact_of(near))
        for server in far:
            own.protocol.heard_from(contact_of(server))
            network.run(0.5)
        pinged = [target for source, target, _ in requests(network, "ping") if source == home(own)]
        self.assertEqual(pinged, [home(far[0]), home(far[1]), home(far[0])])
        bucket = own.table.bucket_for(1 << 159)
        self.assertEqual(set(bucket.entries), {far[0].id, far[1].id})
        self.assertEqual(list(bucket.replacements), [server.id for server in far[2:]])


class Moved(SynchronousTestCase):
    """Section 2.2: a contact whose address changed."""

    def test_a_peer_that_moved_is_known_at_its_new_address_once_the_old_one_is_silent(self) -> None:
        """And a stranger that claims the ID of a live one changes nothing; kademlia 2.2.3 asks in neither case."""
        network = Network(latency=0.01)
        own, moving, stranger = (network.server(number, ksize=4) for number in range(3))
        own.protocol.heard_from(contact_of(moving))
        network.result(stranger.protocol.call(home(own), "ping", moving.id))
        network.run(3)
        entry = own.table.get(moving.id)
        assert entry is not None
        self.assertEqual(entry.contact.home, home(moving))
        self.assertIn((home(own), home(moving)), [row[:2] for row in requests(network, "ping")])
        network.kill(moving)
        for _ in range(3):
            network.result(stranger.protocol.call(home(own), "ping", moving.id))
            network.run(5)
        entry = own.table.get(moving.id)
        assert entry is not None
        self.assertEqual(entry.contact.home, home(stranger))


class Joining(SynchronousTestCase):
    """Section 2.3: joining."""

    def test_a_join_looks_up_itself_and_then_an_id_in_every_farther_bucket(self) -> None:
        """kademlia 2.2.3 looks up itself only."""
        network = Network(latency=0.01)
        network.grow(30, ksize=2)
        network.sent.clear()
        newcomer = network.server(99, ksize=2)
        network.result(newcomer.bootstrap([home(network.servers[0])]))
        asked = requests(network, "find_node")
        targets = list(dict.fromkeys(args[1] for source, _, args in asked if source == home(newcomer)))
        self.assertEqual(targets[0], newcomer.id)
        farther = newcomer.table.farther_than_closest()
        self.assertGreater(len(targets), 1)
        for target in targets[1:]:
            self.assertTrue(any(bucket.covers(to_int(target)) for bucket in farther))


class Reading(SynchronousTestCase):
    """Section 2.3: FIND_VALUE."""

    def test_the_first_value_ends_a_lookup_while_others_are_being_asked(self) -> None:
        """Closer ones that do not answer change nothing, and nobody is asked any more."""
        network = Network(latency=0.01)
        own = network.server(0, id=to_bytes(1 << 159), ksize=6, alpha=6)
        holder, *others = [network.server(n, id=to_bytes(n), ksize=6) for n in (9, 1, 2, 3, 4, 5, 6, 7)]
        target = bytes(20)
        holder.publisher.keeper.accept(target, b"v", 1, HOUR)
        own.protocol.heard_from(contact_of(holder))
        for silent in others[:5]:
            own.protocol.heard_from(contact_of(silent))
            network.ports.pop(home(silent))
        for more in others[5:]:
            holder.table.heard_from(contact_of(more), 0.0)
        started = network.seconds()
        found = network.result(ensureDeferred(own.publisher.fetch(target)))
        assert found is not None
        self.assertEqual(found.value, b"v")
        self.assertLess(network.seconds() - started, 0.05)
        network.run(0.01)
        self.assertEqual(len(requests(network, "find_value")), 6)


class Refreshing(SynchronousTestCase):
    """Sections 2.3 and 2.5: lookups of a peer that has nothing to look for."""

    def setUp(self) -> None:
        self.network = Network(latency=0.01)
        self.own = self.network.server(0, id=bytes(20), ksize=2)
        self.own.table.bits = 1  # far buckets are not split
        for number, identifier in enumerate((1, 2, *((1 << bit) + n for bit in (158, 159) for n in (1, 2)))):
            other = self.network.server(1 + number, id=to_bytes(identifier), ksize=2)
            self.own.protocol.heard_from(contact_of(other))
        self.middle, self.far = (self.own.table.bucket_for(1 << bit) for bit in (158, 159))

    def looked_up(self, hours: float) -> list[int]:
        """Let time pass; return the targets of the own lookups."""
        self.network.sent.clear()
        self.network.run(hours * HOUR)
        rows = requests(self.network, "find_node")
        return list(dict.fromkeys(to_int(args[1]) for source, _, args in rows if source == home(self.own)))

    def test_a_bucket_is_refreshed_an_hour_after_the_last_lookup_in_it(self) -> None:
        """Each by itself, and not before."""
        self.assertEqual(self.looked_up(0.5), [])
        self.network.result(self.own.publisher.crawl(to_bytes((1 << 159) + 12345)).run())
        targets = self.looked_up(0.8)
        self.assertTrue(any(map(self.middle.covers, targets)), targets)
        self.assertFalse(any(map(self.far.covers, targets)), targets)
        targets = self.looked_up(0.4)
        self.assertEqual(len([target for target in targets if self.far.covers(target)]), 1)

    def test_the_ids_looked_up_are_drawn_by_chance(self) -> None:
        """The same one each time would show the same corner of a bucket for ever."""
        targets = self.looked_up(8)
        for bucket in (self.middle, self.far):
            inside = [target for target in targets if bucket.covers(target)]
            self.assertGreaterEqual(len(inside), 6)
            self.assertNotIn(bucket.lower, inside)
            self.assertTrue(min(inside) < bucket.lower + bucket.span // 2 <= max(inside))

    def test_the_own_id_is_looked_up_every_hour_whatever_else_is(self) -> None:
        """Section 2.5: lookups nearby, of other IDs, do not show who has joined beside us."""
        targets = []
        for _ in range(8):
            self.network.result(self.own.publisher.crawl(to_bytes(5)).run())
            targets += self.looked_up(0.3)
        self.assertEqual(targets.count(0), 2)


class Replicating(SynchronousTestCase):
    """Section 2.5: replicating, with the own subtree known."""

    def test_a_holder_replicates_its_own_pairs_without_a_lookup(self) -> None:
        """kademlia 2.2.3 looks up the key of every pair, every hour, at every holder."""
        network = Network(latency=0.01)
        servers = list(network.grow(12, ksize=4))
        network.run(1.2 * HOUR)  # every peer has refreshed its own subtree
        keys = [f"key {number}" for number in range(10)]
        for key in keys:
            network.result(servers[0].set(key, b"v"))
        network.sent.clear()
        network.run(1.5 * HOUR)
        wanted = {digest(key) for key in keys}
        self.assertEqual({args[1] for *_, args in requests(network, "store")}, wanted)
        looked_up = [args[1] for *_, args in requests(network, "find_node") if args[1] in wanted]
        self.assertEqual(looked_up, [])

    def test_joining_peers_make_every_pair_be_stored_at_them_once(self) -> None:
        """By the closest holder only, and exactly the pairs that are theirs now."""
        network = Network(latency=0.01)
        servers = list(network.grow(10, ksize=3))
        network.run(1.2 * HOUR)
        for number in range(30):
            network.result(servers[0].set(f"key {number}", b"v"))
        network.sent.clear()
        newcomer = network.server(50, ksize=3)
        network.result(newcomer.bootstrap([home(servers[0])]))
        network.run(0.2 * HOUR)
        given = [args[1] for _, target, args in requests(network, "store") if target == home(newcomer)]
        theirs = [key for key in (digest(f"key {n}") for n in range(30)) if newcomer in network.closest(key, 3)]
        self.assertEqual(sorted(given), sorted(theirs))


class Stale(SynchronousTestCase):
    """Section 4.1: what a failure does to a contact."""

    def test_one_lost_exchange_drops_nobody(self) -> None:
        """It is suspected, backed off, pinged, and trusted again; kademlia 2.2.3 has forgotten it by then."""
        network = Network(latency=0.01)
        own, other = network.server(0, ksize=4), network.server(1, ksize=4)
        own.protocol.heard_from(contact_of(other))
        network.lost = lambda source, target: True
        network.result(own.protocol.ask(contact_of(other), "find_node", bytes(20)))
        entry = own.table.get(other.id)
        assert entry is not None
        self.assertTrue(entry.suspect)
        network.lost = lambda source, target: False
        network.run(5)
        self.assertFalse(entry.suspect)
        self.assertIs(own.table.get(other.id), entry)

    def test_a_lookup_does_not_ask_who_is_backed_off(self) -> None:
        """Others go on naming the dead for a while."""
        network = Network(latency=0.01)
        own, other = network.server(0, ksize=4), network.server(1, ksize=4)
        dead = Contact(digest("dead"), "10.9.9.9", 1)
        for knows in (own, other):
            knows.protocol.heard_from(dead)
        own.protocol.heard_from(contact_of(other))
        own.table.failed(dead, network.seconds())
        network.result(own.publisher.crawl(dead.id).run())
        asked = [target for source, target, _ in requests(network, "find_node") if source == home(own)]
        self.assertEqual(asked, [home(other)])
        network.run(1.5)
        network.result(own.publisher.crawl(dead.id).run())
        self.assertIn((home(own), dead.home), [row[:2] for row in requests(network, "ping")])

    def test_the_waits_between_failures_double(self) -> None:
        """Pings to a dead contact become rarer."""
        network = Network(latency=0.01)
        own = network.server(0, ksize=4)
        own.protocol.heard_from(Contact(digest("dead"), "10.9.9.9", 1))
        own.protocol.probe(Contact(digest("dead"), "10.9.9.9", 1))
        waits = []
        entry = own.table.get(digest("dead"))
        assert entry is not None
        while entry.failures < MAX_FAILURES:
            before = entry.failures
            network.run(0.05)
            if entry.failures > before:
                waits.append(entry.retry_at - network.seconds())
        self.assertEqual([round(wait) for wait in waits], [1, 2, 4, 8, 16])


class Accelerated(SynchronousTestCase):
    """Section 4.2: b bits per step."""

    def test_lookups_take_fewer_steps_with_more_bits(self) -> None:
        """In a network that knows itself: the tables are filled as a long-lived peer's are."""
        hops = []
        for bits in (1, 5):
            network = Network(latency=0.001)
            servers = [network.server(number, ksize=2, alpha=1) for number in range(120)]
            for server in servers:
                server.table.bits = bits
                for other in servers:
                    server.table.heard_from(contact_of(other), 0.0)
            total = 0
            for number in range(40):
                crawl = servers[number].publisher.crawl(servers[-1 - number].id)
                network.result(crawl.run())
                total += crawl.lookup.hops
            hops.append(total / 40)
        self.assertLess(hops[1], hops[0] - 0.5)

    def test_a_far_bucket_is_split_down_to_a_multiple_of_b(self) -> None:
        """And not below: the size of the table stays logarithmic."""
        for bits in (1, 2, 5):
            table = RoutingTable(bytes(20), 1, 0.0, bits)
            for number in range(512):
                table.heard_from(Contact(to_bytes((1 << 159) + (number << 150)), "10.0.0.1", 1 + number), 0.0)
            depths = {bucket.depth for bucket in table.buckets if not bucket.covers(0)}
            self.assertEqual(max(depths), max(1, bits))
