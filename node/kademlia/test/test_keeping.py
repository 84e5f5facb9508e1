"""What keeps data alive and fresh: periodic work, handovers, doubt (paper, sections 2.3 and 2.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.trial.unittest import SynchronousTestCase

from kademlia.codec import REQUEST, decode
from kademlia.contact import Contact
from kademlia.handover import PAGE
from kademlia.ids import digest, to_int
from kademlia.rpc import Reply
from kademlia.test.virtual import DAY, HOUR, Address, Network, home, requests

if TYPE_CHECKING:
    from kademlia.network import Server
    from kademlia.records import Record


class Periodic(SynchronousTestCase):
    """Sections 2.3 and 2.5: what keeps data alive."""

    def test_replicas_of_dead_holders_are_made_anew_within_the_interval(self) -> None:
        """Each hour a holder stores its pairs at the k closest that are left."""
        network = Network(latency=0.01)
        servers = network.grow(12, ksize=3)
        assert network.result(servers[0].set("key", b"v"))
        key = digest("key")
        for server in network.closest(key, 3)[:2]:
            network.kill(server)
        assert len(network.holders(key)) == 1
        network.run(1.5 * HOUR)
        assert set(network.closest(key, 3)) <= set(network.holders(key))

    def test_a_pair_received_within_the_hour_is_not_replicated(self) -> None:
        """Section 2.5: of the k holders, one does the work for all; kademlia 2.2.3 has them all do it."""
        network = Network(latency=0.01)
        servers = network.grow(8, ksize=4)
        assert network.result(servers[0].set("key", b"v"))
        network.sent.clear()
        network.run(0.9 * HOUR)
        assert requests(network, "store") == []
        network.run(0.6 * HOUR)
        assert len({source for source, _ in requests(network, "store")}) == 1

    def test_a_pair_expires_after_a_day_without_its_publisher(self) -> None:
        """However often holders replicate it."""
        network = Network(latency=0.01)
        servers = network.grow(6, ksize=3)
        key = digest("key")
        publisher = network.closest(key, 6)[-1]
        assert network.result(publisher.set("key", b"v"))
        network.kill(publisher)
        network.run(0.9 * DAY)
        assert len(network.holders(key)) >= 3
        network.run(0.2 * DAY)
        assert network.holders(key) == []
        assert all(server.storage.get(key) is None for server in servers)

    def test_the_publisher_keeps_its_pair_alive_by_republishing(self) -> None:
        """The one thing that the README of kademlia 2.2.3 says it lacks."""
        network = Network(latency=0.01)
        network.grow(6, ksize=3)
        key = digest("key")
        publisher = network.closest(key, 6)[-1]
        assert network.result(publisher.set("key", b"v"))
        network.run(2.5 * DAY)
        assert set(network.closest(key, 3)) <= set(network.holders(key))

    def test_a_pair_is_there_all_the_time_while_its_publisher_makes_it_anew(self) -> None:
        """It is published again before its holders forget it, at whatever phase their periodic work is."""
        for phase in range(3):
            network = Network(latency=0.01)
            network._started = 100 * phase
            servers = network.grow(12, ksize=4)
            publisher = network.closest(digest("key"), 12)[-1]
            assert network.result(publisher.set("key", b"v"))
            network.run(0.94 * DAY)
            for _ in range(int(0.08 * DAY)):
                network.run(1)
                assert network.result(servers[0].get("key")) == b"v", network.seconds() - DAY

    def test_a_replaced_value_does_not_come_back_after_a_day(self) -> None:
        """Its publisher learns from the holders that it was replaced, be the other writer still there or not."""
        for dead in (False, True):
            network = Network(latency=0.01)
            network.grow(12, ksize=4)
            reader, first, second = network.closest(digest("key"), 12)[-3:]
            assert network.result(first.set("key", b"old"))
            network.run(0.5)
            assert network.result(second.set("key", b"new"))
            if dead:
                network.kill(second)
            network.run(0.94 * DAY)
            seen = set()
            for _ in range(int(0.08 * DAY)):
                network.run(1)
                seen.add(network.result(reader.get("key")))
            assert seen == ({b"new", None} if dead else {b"new"})
            assert first.storage.published_before(network.wall() + DAY, 1) == []

    def test_a_publication_that_nobody_stored_is_soon_tried_again(self) -> None:
        """A day later its holders would have forgotten it."""
        network = Network(latency=0.01)
        servers = network.grow(6, ksize=3)
        publisher = network.closest(digest("key"), 6)[-1]
        assert network.result(publisher.set("key", b"v"))
        network.run(0.92 * DAY)
        for server in servers:
            server.storage.delete(digest("key"))
            server.storage.max_keys = 0
        network.run(0.12 * DAY)
        for server in servers:
            server.storage.max_keys = 1
        network.run(0.06 * DAY)
        assert network.result(servers[0].get("key")) == b"v"

    def test_idle_buckets_are_refreshed(self) -> None:
        """Section 2.3: a bucket without a lookup for an hour gets one."""
        network = Network(latency=0.01)
        network.grow(4)
        network.sent.clear()
        network.run(1.2 * HOUR)
        assert requests(network, "find_node")

    def test_a_returning_peer_is_noticed_by_those_who_suspected_it(self) -> None:
        """Suspects are pinged with back-off (section 4.1)."""
        network = Network()
        first, second = network.grow(2)
        cut = {home(second)}
        network.lost = lambda source, target: bool(cut & {source, target})
        assert network.result(first.set("key", b"v")) is False
        assert first.contact_count == 0
        cut.clear()
        network.run(10)
        assert first.contact_count == 1


class HandingOver(SynchronousTestCase):
    """Section 2.5: a peer that joins is given its pairs."""

    def test_a_joining_peer_gets_the_pairs_it_is_among_the_k_closest_for(self) -> None:
        """And each of them once, from the closest holder only."""
        network = Network(latency=0.01)
        servers = network.grow(10, ksize=3)
        network.run(1.2 * HOUR)
        keys = [f"key {number}" for number in range(40)]
        for key in keys:
            assert network.result(servers[0].set(key, b"v"))
        network.sent.clear()
        network.grow(1, ksize=3)
        network.run(2)
        newcomer = network.servers[-1]
        belongs = [key for key in keys if newcomer in network.closest(digest(key), 3)]
        assert belongs
        assert all(newcomer in network.holders(digest(key)) for key in belongs)
        assert (
            len([target for _, target in requests(network, "store") if target == home(newcomer)])
            <= len(belongs) + 2
        )

    def test_a_restarted_peer_gets_what_it_missed(self) -> None:
        """Others know by its incarnation that it was away, even if they never noticed."""
        network = Network()
        servers = network.grow(5, ksize=5)
        peer = servers[3]
        network.kill(peer)
        assert network.result(servers[0].set("key", b"v"))
        again = network.server(3, ksize=5)
        assert network.result(again.bootstrap([home(servers[0])]))
        network.run(2)
        assert again in network.holders(digest("key"))

    def test_a_holder_that_missed_a_store_gets_it_when_it_is_heard_from_again(self) -> None:
        """The publisher remembers whom it could not reach."""
        network = Network()
        servers = network.grow(4, ksize=4)
        cut = {home(servers[3])}
        network.lost = lambda source, target: bool(cut & {source, target})
        assert network.result(servers[0].set("key", b"v"))
        cut.clear()
        network.run(4)
        assert servers[3] in network.holders(digest("key"))


class Freshness(SynchronousTestCase):
    """An older value is neither served over a newer one nor does it replace it."""

    def partitioned(self) -> tuple[Network, list[Server], set[Address]]:
        """Return a network whose first two peers are cut off with an old value; the others have a new one."""
        network = Network(latency=0.01)
        servers = list(network.grow(6, ksize=6))
        assert network.result(servers[0].set("key", b"old"))
        cut = {home(server) for server in servers[:2]}
        network.lost = lambda source, target: (source in cut) is not (target in cut)
        network.run(60)
        assert network.result(servers[4].set("key", b"new"))
        return network, servers, cut

    def test_after_a_partition_heals_every_holder_takes_over_the_newer_value(self) -> None:
        """Long before the next replication would bring it: those cut off notice that they were."""
        network, servers, cut = self.partitioned()
        cut.clear()
        network.run(40)
        assert {server.storage.get(digest("key")).value for server in servers} == {b"new"}  # type: ignore[union-attr]

    def test_once_the_heal_is_noticed_the_old_value_is_not_served_any_more(self) -> None:
        """A holder that was cut off doubts what it has; whoever reads asks the others too."""
        network, servers, cut = self.partitioned()
        cut.clear()
        first = servers[0]
        for _ in range(400):
            network.run(0.1)
            if first.publisher.keeper.doubted_before:
                break
        assert first.publisher.keeper.doubted_before
        assert network.result(first.get("key")) == b"new"
        stranger = network.server(9, ksize=6)
        network.result(stranger.bootstrap([home(first)]))
        assert network.result(stranger.get("key")) == b"new"

    def test_a_holder_restarted_with_an_old_store_does_not_serve_it_over_a_newer_value(self) -> None:
        """It doubts everything from its earlier life until the others confirmed it."""
        network = Network(latency=0.01)
        servers = network.grow(6, ksize=3)
        key = digest("key")
        assert network.result(servers[0].set("key", b"old"))
        holder = network.closest(key, 1)[0]
        number = servers.index(holder)
        network.kill(holder)
        assert network.result(network.closest(key, 1)[0].set("key", b"new"))
        again = network.server(number, id=holder.id, ksize=3, storage=holder.storage)
        served: list[object] = []
        again.bootstrap([home(server) for server in network.servers[:-1]])
        for _ in range(100):
            network.run(0.02)
            if again.contact_count:
                served.append(network.result(again.get("key")))
        assert set(served) == {b"new"}
        assert again.storage.get(key).value == b"new"  # type: ignore[union-attr]

    def test_a_paused_holder_doubts_what_it_has_when_it_goes_on(self) -> None:
        """It knows nothing of its own absence but that its clock jumped."""
        network = Network(latency=0.01)
        servers = list(network.grow(4, ksize=4))
        assert network.result(servers[0].set("key", b"old"))
        keeper = servers[1].publisher.keeper
        network.run(5)
        assert not keeper.doubted_before
        servers[1].maintenance._last_look -= 10  # what SIGSTOP and SIGCONT do
        network.run(2)
        assert keeper.doubted_before

    def test_a_confirmed_value_is_served_at_once_again(self) -> None:
        """Doubt ends with the first replication."""
        network = Network(latency=0.01)
        servers = list(network.grow(4, ksize=4))
        assert network.result(servers[0].set("key", b"v"))
        servers[1].maintenance.doubt()
        network.run(3)
        record = servers[1].storage.get(digest("key"))
        assert record is not None
        assert not servers[1].publisher.keeper.doubts(record)

    def test_peers_that_were_away_together_do_not_lift_each_other_s_doubt(self) -> None:
        """Both have the old value, and agree on it, for as long as the majority is not there."""
        network, servers, cut = self.partitioned()
        for server in servers[:2]:
            server.maintenance.doubt()
        network.run(2 * HOUR)
        for server in servers[:2]:
            record = server.storage.get(digest("key"))
            assert record is not None
            assert record.value == b"old"
            assert server.publisher.keeper.doubts(record)
        cut.clear()
        network.run(3 * HOUR)
        for server in servers:
            record = server.storage.get(digest("key"))
            assert record is not None
            assert record.value == b"new"
            assert not server.publisher.keeper.doubts(record)

    def test_doubt_ends_a_day_after_most_of_the_network_is_gone(self) -> None:
        """What the others had has expired by then."""
        network = Network(latency=0.01)
        servers = list(network.grow(6, ksize=6))
        for server in servers[2:]:
            network.kill(server)
        network.run(1)
        key = digest("key")
        for server, when in ((servers[0], 0.9), (servers[0], 1.2)):
            network.run(when * DAY - network.seconds())
            assert network.result(server.set("key", b"v"))
            network.run(1)
            server.maintenance.doubt()
            network.run(HOUR / 2)
            record = server.storage.get(key)
            assert record is not None
            assert server.publisher.keeper.doubts(record) is (when < 1)

    def test_doubt_stays_where_the_newer_value_could_not_be_fetched(self) -> None:
        """A holder says that it has one, and the request for it is lost."""
        network = Network(latency=0.01)
        servers = list(network.grow(6, ksize=6))
        assert network.result(servers[0].set("key", b"old"))
        holder = servers[1]
        network.kill(holder)
        assert network.result(servers[0].set("key", b"new"))
        network.kill(servers[0])  # it would remember
        again = network.server(1, id=holder.id, ksize=6, storage=holder.storage)
        send, until = network.send, network.seconds() + 5

        def lossy(datagram: bytes, source: Address, target: Address) -> None:
            message = decode(datagram)
            name = message.body[0] if message.kind == REQUEST else None
            fetching = name == "find_value" and source == home(again) and network.seconds() < until
            if not fetching and not (name == "store" and target == home(again)):
                send(datagram, source, target)

        network.send = lossy  # type: ignore[method-assign]
        again.bootstrap([home(server) for server in network.servers[:-1]])
        network.run(5)
        record = again.storage.get(digest("key"))
        assert record is not None
        assert record.value == b"old"
        assert again.publisher.keeper.doubts(record)
        assert network.result(again.get("key")) == b"new"
        network.run(HOUR / 2)
        record = again.storage.get(digest("key"))
        assert record is not None
        assert record.value == b"new"
        assert not again.publisher.keeper.doubts(record)

    def test_a_record_that_cannot_be_confirmed_does_not_hold_up_the_others(self) -> None:
        """Some holder may claim to have something newer, and never give it."""
        network = Network(latency=0.01)
        servers = list(network.grow(4, ksize=4))
        keys = [f"key {number}" for number in range(30)]
        for key in keys:
            assert network.result(servers[0].set(key, b"v"))
        network.run(1)
        claimed = {digest(key) for key in keys[:20]}
        liar, doubting = servers[1], servers[2]
        rpc_store = liar.protocol.rpc_store

        def lying(sender: Address, node_id: object, key: object, value: Any) -> Any:
            answer = rpc_store(sender, node_id, key, value)
            return Reply(True, {"v": int((network.wall() + HOUR) * 1e6)}) if key in claimed else answer

        liar.protocol._handlers["store"] = lying
        doubting.maintenance.doubt()
        network.run(5)
        keeper = doubting.publisher.keeper
        records = [keeper.get(digest(key)) for key in keys]
        assert {r.key for r in records if r is not None and keeper.doubts(r)} == claimed

    def test_a_former_holder_does_not_read_its_own_old_copy(self) -> None:
        """Others joined closer to the key, and nobody tells it of newer values: it asks, and falls back on it."""
        for value in (b"old", bytes(20_000)):
            network = Network(latency=0.01)
            network.grow(12, ksize=4)
            network.run(1.2 * HOUR)
            key = digest("key")
            holder, writer = network.closest(key, 4)[-1], network.closest(key, 12)[-1]
            assert network.result(writer.set("key", value))
            number = 100
            while holder in network.closest(key, 4):
                joining = network.server(number, ksize=4)
                network.result(joining.bootstrap([home(network.servers[0])]))
                number += 1
            network.run(1.5 * HOUR)  # by then it knows of them
            assert network.result(holder.get("key")) == value
            assert network.result(writer.set("key", b"new"))
            assert network.result(holder.get("key")) == b"new"
            network.lost = lambda source, target: True
            assert network.result(holder.get("key")) is not None

    def test_a_value_is_found_at_holders_that_are_suspected_and_back(self) -> None:
        """Nobody has noticed yet that they answer again; without them there would be none."""
        network = Network(latency=0.01)
        servers = network.grow(12, ksize=3)
        network.run(1.2 * HOUR)
        key = digest("key")
        assert network.result(servers[0].set("key", b"v"))
        holders = network.closest(key, 3)
        reader = network.closest(key, 12)[-1]
        now = network.seconds()
        for server in network.servers:
            for holder in holders:
                contact = Contact(holder.id, *home(holder))
                for failure in range(6):
                    server.table.failed(contact, now + 100 * failure)
        assert network.result(reader.get("key")) == b"v"

    def test_nobody_is_asked_twice_for_a_value_that_is_not_there(self) -> None:
        """Who just failed in the lookup is suspected now, and was asked."""
        network = Network(latency=0.01)
        servers = network.grow(8, ksize=3)
        network.run(1.2 * HOUR)
        dead = [home(server) for server in network.closest(digest("key"), 3)]
        for server in network.closest(digest("key"), 3):
            network.ports.pop(home(server))
        reader = next(server for server in servers if home(server) not in dead)
        network.sent.clear()
        assert network.result(reader.fetch("key")) is None
        asked = [target for source, target in requests(network, "find_value") if source == home(reader)]
        assert all(asked.count(target) == 1 for target in dead if target in asked)

    def test_a_peer_that_is_alone_serves_what_it_has_and_goes_on_doubting_it(self) -> None:
        """An old value is better than none; nobody has confirmed it."""
        network = Network(latency=0.01)
        servers = list(network.grow(2, ksize=2))
        assert network.result(servers[0].set("key", b"v"))
        network.kill(servers[1])
        servers[0].maintenance.doubt()
        network.run(20)
        assert network.result(servers[0].get("key")) == b"v"
        record = servers[0].storage.get(digest("key"))
        assert record is not None
        assert servers[0].publisher.keeper.doubts(record)


class Steadiness(SynchronousTestCase):
    """What is stored does not hold up the loop."""

    def test_a_new_contact_does_not_hold_the_loop_for_what_is_stored(self) -> None:
        """Whatever is stored, one step of the handover reads one page of it."""
        network = Network()
        servers = network.grow(2, ksize=2)
        for number in range(2000):
            servers[0].publisher.keeper.accept(digest(number), b"v", 1, DAY)
        pages: list[float] = []
        page = servers[0].storage.page

        def counted(after: bytes | None, limit: int) -> list[Record]:
            assert limit <= PAGE
            pages.append(network.seconds())
            return page(after, limit)

        servers[0].storage.page = counted  # type: ignore[method-assign]
        network.grow(1, ksize=2)
        network.run(30)
        mine = servers[0].table.own_cell(without=network.servers[2].id)
        read = sum(mine.lowest <= to_int(digest(number)) <= mine.highest for number in range(2000))
        assert read // PAGE <= len(pages) <= read // PAGE + 1
        assert len(pages) > 10
