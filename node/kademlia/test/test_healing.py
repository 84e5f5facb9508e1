"""What happens when the parts of a network that was cut in two can reach each other again."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from kademlia.contact import Contact
from kademlia.ids import digest, to_int
from kademlia.intervals import PROFILES
from kademlia.network import Server
from kademlia.protocol import DOUBTFUL
from kademlia.routing import BACKOFF, CUT_OFF_FAILURES, LONGEST_BACKOFF
from kademlia.service import REUNITE, Joiner
from kademlia.test.virtual import HOUR, Address, Network, home, requests


class Cut:
    """A network of which some peers are cut off from the others until `heal` is called."""

    def __init__(self, network: Network, cut: set[Address]) -> None:
        self.network = network
        self.cut = cut
        self.healed_at: float | None = None
        network.lost = lambda a, b: self.healed_at is None and (a in cut) is not (b in cut)

    def heal(self) -> None:
        """Let both parts reach each other again."""
        self.healed_at = self.network.seconds()

    def across(self, server: Server) -> int:
        """Return how many contacts in the other part a peer has that answer."""
        here = home(server) in self.cut
        return sum(1 for n in server.neighbours() if ((n.address, n.port) in self.cut) is not here)

    def seconds_until(self, parts: int, within: float) -> float:
        """Let time pass until so many peers have a contact in the other part; return how long that was."""
        assert self.healed_at is not None
        while sum(1 for server in self.network.servers if self.across(server)) < parts:
            assert self.network.seconds() < self.healed_at + within, "they stay apart"
            self.network.run(0.5)
        return self.network.seconds() - self.healed_at


class Partition(SynchronousTestCase):
    """Halves that knew each other, and halves that never did."""

    def test_halves_find_each_other_soon_after_ten_minutes(self) -> None:
        """Their suspicion of each other must not have grown with the time that they were apart."""
        # With the paper's intervals it takes ten minutes more until all silence is noticed.
        for profile, duration in (("lab", 600), ("demo", 600), ("paper", 1200)):
            network = Network(0.01)
            network.grow(16, ksize=4, intervals=PROFILES[profile])
            network.run(20)
            cut = Cut(network, {home(server) for server in network.servers[:8]})
            network.run(duration)
            assert not any(map(cut.across, network.servers))
            cut.heal()
            cut.seconds_until(1, within=30)
            cut.seconds_until(len(network.servers), within=60)

    def test_both_halves_have_the_newer_value_within_an_interval(self) -> None:
        """Every holder, and whoever asks."""
        network = Network(0.01)
        servers = list(network.grow(24, ksize=6))
        network.run(1.2 * HOUR)
        order = network.closest(digest("key"), 24)
        assert network.result(order[-1].set("key", b"old"))
        cut = Cut(network, {home(server) for server in order[0:3] + order[8:14]})
        network.run(600)
        assert network.result(order[-1].set("key", b"new"))
        network.run(1)
        cut.heal()
        cut.seconds_until(len(servers), within=60)
        network.run(HOUR)
        for holder in order[:6]:
            record = holder.storage.get(digest("key"))
            assert record is not None
            assert record.value == b"new"
        assert {network.result(server.get("key")) for server in servers} == {b"new"}

    def test_halves_that_never_knew_each_other_find_together_by_their_bootstrap_peers(self) -> None:
        """Or those that dropped all contacts of the other half, for newcomers of their own."""
        network = Network(0.01)
        servers = [network.server(number, ksize=4) for number in range(16)]
        cut = Cut(network, {home(server) for server in servers[:8]})
        told = (home(servers[0]), home(servers[8]))
        for number, server in enumerate(servers):
            others = tuple(address for address in told if address != home(server))
            Joiner(server, others, network, random.Random(number)).start()
        network.run(600)
        for half in (0, 8):
            assert network.result(servers[half].set(f"key {half}", b"v"))
            assert servers[half].contact_count >= 4
        assert not any(map(cut.across, servers))
        cut.heal()
        cut.seconds_until(len(servers), within=3 * REUNITE)
        network.run(1.2 * HOUR)
        for key in ("key 0", "key 8"):
            assert {network.result(server.get(key)) for server in servers} == {b"v"}
            assert set(network.closest(digest(key), 3)) <= set(network.holders(digest(key)))

    def test_a_bootstrap_peer_that_is_a_contact_is_not_greeted(self) -> None:
        """And one that is none costs a greeting and a question, as long as it names nobody new."""
        network = Network(0.01)
        servers = network.grow(6, ksize=8)
        network.sent.clear()
        network.result(servers[1].reunite([home(servers[0]), home(servers[2])]))
        assert network.sent == []
        servers[1].table.failed(Contact(servers[0].id, *home(servers[0])), network.seconds())
        network.result(servers[1].reunite([home(servers[0]), home(servers[2])]))
        assert requests(network, "ping") == [(home(servers[1]), home(servers[0]))]
        assert len(network.sent) == 4
        assert servers[1].contact_count == 5

    def test_who_is_greeted_names_those_close_to_us(self) -> None:
        """Neither part has to wait for its next refresh to know them."""
        network = Network(0.01)
        servers = list(network.grow(12, ksize=4))
        own = network.server(50, ksize=4)
        network.result(own.reunite([home(servers[0])]))
        network.run(1)
        close = {server.id for server in sorted(servers, key=lambda s: to_int(s.id) ^ to_int(own.id))[:2]}
        assert close <= {neighbour.id for neighbour in own.neighbours()}
        assert own.contact_count > 2
        assert all(server.table.get(own.id) for server in servers if server.id in close)

    def test_whoever_answers_a_greeting_with_nonsense_is_left_alone(self) -> None:
        """No ID, our own one, or no contacts."""
        network = Network(0.01)
        own, other = network.server(0, ksize=4), network.server(1, ksize=4)
        for value in (b"short", own.id, None, 7):
            other.protocol._handlers["ping"] = lambda sender, node_id, value=value: value
            network.result(own.reunite([home(other)]))
            assert own.contact_count == 0
        other.protocol._handlers["ping"] = other.protocol.rpc_ping
        for rows in (None, 5, [5, None, [1]], {"value": b"v"}, [[own.id, "10.0.0.1", 8468]]):
            other.protocol._handlers["find_node"] = lambda sender, node_id, target, rows=rows: rows
            network.result(own.reunite([home(other)]))
            own.table.failed(Contact(other.id, *home(other)), network.seconds())


class Paused(SynchronousTestCase):
    """SIGSTOP and SIGCONT: a socket is read before the timers run."""

    def setUp(self) -> None:
        self.network = Network(0.01)
        self.network.grow(6, ksize=4)
        self.network.run(5)
        key = digest("key")
        self.holder = self.network.closest(key, 1)[0]
        publisher, self.reader = self.network.closest(key, 6)[-2:]
        assert self.network.result(publisher.set("key", b"old"))
        self.network.run(2)
        stopped = [True]
        self.network.lost = lambda a, b: stopped[0] and home(self.holder) in (a, b)
        for loop in self.holder.maintenance._loops:
            loop.stop()
        self.network.run(1)
        assert self.network.result(publisher.set("key", b"new"))
        self.network.run(100)
        stopped[0] = False

    def test_what_waits_in_the_socket_is_answered_with_doubt(self) -> None:
        """Or a reader would take the old value for the last word."""
        self.holder.table.heard_from(Contact(self.reader.id, *home(self.reader)), self.network.seconds())
        asked = self.reader.protocol.ask(Contact(self.holder.id, *home(self.holder)), "find_value", digest("key"))
        answer = self.network.result(asked)
        assert answer.value == {"value": b"old"}
        assert answer.extension.get(DOUBTFUL) is True

    def test_an_own_reader_is_not_told_the_old_value(self) -> None:
        """By none of the ways to read."""
        for read in (self.holder.get, self.holder.fetch, self.holder.trace):
            self.holder.publisher.keeper.doubted_before = 0.0
            self.holder.maintenance._last_look = self.network.seconds() - 100
            read("key")
            record = self.holder.storage.get(digest("key"))
            assert record is not None
            assert self.holder.publisher.keeper.doubts(record) or record.value == b"new"
        self.network.run(3)
        assert self.network.result(self.holder.get("key")) == b"new"

    def test_nothing_is_doubted_before_the_start_nor_after_the_stop(self) -> None:
        """A peer that does not run its timers was not paused."""
        server = Server(reactor=self.network)
        self.network.run(100)
        server.maintenance.notice_pause()
        assert not server.publisher.keeper.doubted_before
        before = self.reader.publisher.keeper.doubted_before
        self.reader.maintenance.stop()
        self.network.run(100)
        self.reader.maintenance.notice_pause()
        assert self.reader.publisher.keeper.doubted_before == before


class Suspicion(SynchronousTestCase):
    """How suspects are tried again."""

    def test_a_single_dead_contact_is_rarely_tried(self) -> None:
        """Pings to it become rarer, down to a share of the interval (section 4.1)."""
        network = Network(0.01)
        assert [
            network.server(20 + number, intervals=PROFILES[profile]).table.longest_backoff
            for number, profile in enumerate(("demo", "lab", "paper"))
        ] == [5.0, 30.0, LONGEST_BACKOFF]
        network = Network(0.01)
        servers = network.grow(16)
        dead = servers[5]
        network.kill(dead)
        network.run(5 * HOUR)
        network.sent.clear()
        network.run(5 * HOUR)
        tried = [target for source, target in requests(network, "ping") if target == home(dead)]
        assert len(tried) < 15 * (5 * HOUR / 8), len(tried)

    def test_when_one_contact_is_back_all_suspects_are_tried_at_once(self) -> None:
        """It was us, or the network between us and all of them."""
        network = Network(0.01)
        servers = list(network.grow(12))
        own = servers[0]
        cut = Cut(network, {home(own)})
        network.run(300)
        assert own.contact_count == 0
        cut.heal()
        cut.seconds_until(9, within=3 * BACKOFF)
        cut.seconds_until(12, within=20)  # those whose pings were under way while it healed

    def test_a_contact_that_was_away_briefly_makes_nobody_else_be_tried(self) -> None:
        """One lost ping is no partition."""
        network = Network(0.01)
        own = network.server(0)
        here, gone = Contact(digest("here"), "10.9.9.1", 1), Contact(digest("gone"), "10.9.9.2", 1)
        for contact in (here, gone):
            own.table.heard_from(contact, 0.0)
        for second in range(CUT_OFF_FAILURES):
            own.table.failed(gone, 10.0 * second)
        own.table.failed(here, 20.0)
        own.table.heard_from(here, 21.0)
        assert own.table.retriable(21.0) == []
        for second in range(CUT_OFF_FAILURES):
            own.table.failed(here, 30.0 + 10.0 * second)
        own.table.failed(gone, 51.0)
        own.table.heard_from(here, 52.0)
        assert own.table.retriable(52.0) == [gone]
