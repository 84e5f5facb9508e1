"""Several publishers of one key: the later publication wins, and who lost is told so (paper, section 2.3)."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from twisted.trial.unittest import SynchronousTestCase

from kademlia.errors import KademliaError, Superseded
from kademlia.ids import digest
from kademlia.publishing import MAX_RAISES
from kademlia.records import order_of
from kademlia.rpc import Reply
from kademlia.test.virtual import DAY, HOUR, Network, home

if TYPE_CHECKING:
    from kademlia.network import Server
    from kademlia.publishing import Published, Stored
    from kademlia.records import Value

KEY = digest("key")
LARGE = bytes(20_000)


def held(network: Network) -> set[Value]:
    """Return the values that are held."""
    records = [server.publisher.keeper.get(KEY) for server in network.servers]
    return {record.value for record in records if record is not None}


def published(server: Server) -> list[Value]:
    """Return what a peer is to publish again."""
    return [item.value for item in server.storage.published_before(1e12, 10)]


class Outdone(SynchronousTestCase):
    """A writer whose STOREs meet newer values again and again."""

    def outdo(self, times: int) -> tuple[Network, Server, Server]:
        """Return a network, a writer, and another one that is faster so many times: its clock is ahead."""
        network = Network(latency=0.01)
        network.grow(8, ksize=3)
        fast, slow = network.closest(KEY, 8)[-2:]
        fast.publisher.keeper.wall = lambda: network.wall() + HOUR
        store, left = slow.publisher.store, list(range(times))

        async def outdone(*arguments: Any) -> Stored:
            if left:
                await fast.publish("key", b"fast %d" % left.pop())
            return await store(*arguments)

        self.patch(slow.publisher, "store", outdone)
        return network, fast, slow

    def test_a_writer_that_gives_up_says_so_and_does_not_publish_again(self) -> None:
        """Else it would be told of a version that nobody has, and roll the newer value back a day later."""
        network, fast, slow = self.outdo(MAX_RAISES + 1)
        dead = network.closest(KEY, 1)[0]
        network.kill(dead)
        self.assertRaises(Superseded, network.result, slow.publish("key", b"slow"))
        assert held(network) == {b"fast 0"}
        assert published(slow) == []
        assert slow.handover.missed.count == 0
        network.kill(fast)
        for _ in range(100):
            network.run(DAY / 90)
            assert network.result(network.servers[0].get("key")) in (b"fast 0", None)

    def test_a_writer_that_is_raised_once_more_wins(self) -> None:
        """And what it is told is what is held."""
        network, _, slow = self.outdo(MAX_RAISES)
        told = network.result(slow.publish("key", b"slow"))
        holders = network.holders(KEY)
        assert {server.storage.get(KEY).version for server in holders} == {told.version}  # type: ignore[union-attr]
        assert held(network) == {b"slow"}
        assert told.replicas == told.asked == 3
        assert published(slow) == [b"slow"]

    def test_setting_what_another_writer_replaces_at_once_is_no_success(self) -> None:
        """As where nobody acknowledged."""
        network, _, slow = self.outdo(MAX_RAISES + 1)
        assert network.result(slow.set("key", b"slow")) is False

    def test_a_holder_of_something_newer_is_no_replica(self) -> None:
        """It answers the STORE, and does not have what was to be stored."""
        network = Network(latency=0.01)
        network.grow(8, ksize=3)
        holder, writer = network.closest(KEY, 1)[0], network.closest(KEY, 8)[-1]
        version = int(network.wall() * 1e6) + 10**9
        holder.publisher.keeper.accept(KEY, b"newer", version, DAY)
        rounds: list[Stored] = []
        store = writer.publisher.store

        async def watched(*arguments: Any) -> Stored:
            rounds.append(await store(*arguments))
            return rounds[-1]

        self.patch(writer.publisher, "store", watched)
        assert network.result(writer.publish("key", b"v")).replicas == 3
        assert [(stored.replicas, stored.newest) for stored in rounds] == [(2, version), (3, 0)]

    def test_nobody_is_told_a_version_that_was_not_stored(self) -> None:
        """Two writers at once, and datagrams that are lost."""
        for seed in range(3):
            rng = random.Random(seed)
            network = Network(latency=0.01)
            servers = network.grow(12, ksize=4)
            network.lost = lambda source, target, rng=rng: rng.random() < 0.15  # type: ignore[misc]
            for _ in range(20):
                told: list[Published] = []
                for writer in rng.sample(servers, 2):
                    writer.publish("key", rng.randbytes(4)).addCallbacks(
                        told.append, lambda failure: failure.trap(KademliaError) and None
                    )
                network.run(8)
                newest = max(s.storage.get(KEY).version for s in network.holders(KEY))  # type: ignore[union-attr]
                assert all(one.version <= newest for one in told)


class Ties(SynchronousTestCase):
    """Two publications in the same microsecond."""

    def test_who_loses_a_tie_does_not_publish_again(self) -> None:
        """Holders tell it, be the values large or small; a day later the winner's publisher may be gone."""
        for tail in (b"", LARGE):
            network = Network(latency=0.01)
            network.grow(12, ksize=4)
            network.run(1.2 * HOUR)
            writers = network.closest(KEY, 12)[-2:]
            version = int(network.wall() * 1e6)
            for writer in writers:
                self.patch(writer.publisher.keeper, "next_version", lambda key, version=version: version)
            waiting = [w.publish("key", value + tail) for w, value in zip(writers, (b"A", b"B"), strict=True)]
            for deferred in waiting:
                network.result(deferred)
            value = held(network).pop()
            winner = next(writer for writer in writers if published(writer) == [value])
            network.kill(winner)
            for _ in range(20):
                network.run(DAY / 17)
                assert network.result(network.servers[0].get("key")) in (value, None)
            assert not any(map(published, network.servers))

    def test_holders_say_that_a_tie_is_lost(self) -> None:
        """By the digest, which all of them compare alike: whoever comes second, and whatever is large."""
        for one, two in ((b"A", b"B"), (b"A" + LARGE, b"B" + LARGE), (b"A", LARGE)):
            low, high = sorted((one, two), key=lambda value: order_of(7, value))
            network = Network(latency=0.01)
            holder, other = network.grow(2, ksize=2)
            holder.publisher.keeper.accept(KEY, high, 7, DAY)
            keeper = other.publisher.keeper
            record = keeper.accept(KEY, low, 7, DAY)
            contact = other.table.closest(0, 1)[0]
            asked = other.protocol.store_at(contact, record, "publish")
            assert network.result(asked).extension.get("v") == 7
            assert held(network) == {low, high}

    def test_a_peer_that_writes_twice_at_once_republishes_what_it_wrote_last(self) -> None:
        """Whichever of the two is done first."""
        for seed in range(4):
            network = Network(latency=0.01)
            network._started = 100 * seed
            network.grow(12, ksize=4)
            writer = network.closest(KEY, 12)[-1]
            waiting = [writer.publish("key", b"%d %d" % (number, seed)) for number in range(3)]
            for deferred in waiting:
                network.result(deferred)
            last = b"2 %d" % seed
            assert held(network) == {last}
            assert published(writer) == [last]
            assert not writer.publisher._turns

    def test_republishing_does_not_undo_what_is_published_meanwhile(self) -> None:
        """The older publication would take the newer one's place in the list."""
        network = Network(latency=0.01)
        network.grow(8, ksize=3)
        writer = network.closest(KEY, 8)[-1]
        assert network.result(writer.set("key", b"old"))
        work = writer.maintenance
        self.patch(type(work), "_republish_after", HOUR / 2)
        network.run(HOUR / 2)
        done, publishing = work.work(), writer.set("key", b"new")
        assert network.result(publishing)
        network.result(done)
        assert published(writer) == [b"new"]

    def test_giving_up_to_wait_for_a_turn_leaves_nothing_behind(self) -> None:
        """A client that leaves cancels its publication."""
        network = Network(latency=0.01)
        writer, _ = network.grow(2, ksize=2)
        first, second = writer.publish("key", b"1"), writer.publish("key", b"2")
        second.cancel()
        self.failureResultOf(second)
        network.result(first)
        assert published(writer) == [b"1"]
        assert not writer.publisher._turns


class Hostile(SynchronousTestCase):
    """What a peer that lies can do to a key."""

    def test_the_largest_version_does_not_make_a_key_unwritable(self) -> None:
        """It is refused; so is one that a holder claims to have."""
        for value in (b"v", LARGE):
            network = Network(latency=0.01)
            network.grow(4, ksize=4)
            one, other = network.servers[:2]
            record = one.publisher.keeper.accept(KEY, value, (1 << 63) - 1, DAY)
            contact = next(c for c in one.table.closest(0, 4) if c.home == home(other))
            answer = network.result(one.protocol.store_at(contact, record, "publish"))
            assert (answer.happened, answer.value) == (True, False)
            one.storage.delete(KEY)
            writer = network.servers[2]
            one.protocol._handlers["store"] = lambda *arguments: Reply(True, {"v": (1 << 63) - 1})
            published = network.result(writer.publish("key", b"written"))
            assert published.version < (network.wall() + 1) * 1e6
            assert b"written" in held(network)
