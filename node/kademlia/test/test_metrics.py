"""`/metrics` of lookups, publications and the records that travel: each sample moves with what it counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, ensureDeferred

from kademlia.errors import NoPeersReachable, QuotaExceeded, Superseded, ValueTooLarge
from kademlia.ids import digest
from kademlia.records import MAX_SIZE, Publication
from kademlia.test.test_observing import Observed, Samples
from kademlia.test.virtual import HOUR, home, requests

if TYPE_CHECKING:
    from kademlia.network import Server
    from kademlia.publishing import Stored

#: and its bytes as they are stored and counted: two of msgpack in front
VALUE = b"value"
SIZE = 7


class Counting(Observed):
    """The observed peer after something happened."""

    def setUp(self) -> None:
        super().setUp()
        self.own = self.servers[0]
        self.before: Samples = self.metrics()

    def moved(self, name: str, **labels: str) -> float:
        """Return by how much a sample grew since the test began."""
        return self.value(self.metrics(), name, **labels) - self.value(self.before, name, **labels)

    def by(self, name: str, label: str) -> dict[str, float]:
        """Return the samples of a counter that grew, by its only label."""
        grown = {dict(labels)[label]: self.moved(n, **dict(labels)) for n, labels in self.metrics() if n == name}
        return {value: count for value, count in grown.items() if count}

    def publications(self) -> dict[tuple[str, str], float]:
        """Return the publications that were counted, by kind and outcome."""
        samples = [dict(labels) for name, labels in self.metrics() if name == "kademlia_publications_total"]
        grown = {(s["kind"], s["outcome"]): self.moved("kademlia_publications_total", **s) for s in samples}
        return {key: count for key, count in grown.items() if count}


class Lookups(Counting):
    """By kind."""

    def test_a_lookup_counts_the_peers_it_asked(self) -> None:
        """As its trace does; the value lookups do not count as node lookups."""
        asked = self.network.result(self.own.trace("missing"))["requests"]
        self.assertGreaterEqual(asked, 4)
        self.assertEqual(self.moved("kademlia_lookup_rpcs_sum", kind="value"), asked)
        self.assertEqual(self.moved("kademlia_lookup_rpcs_bucket", kind="value", le="3"), 0)
        self.assertEqual(self.moved("kademlia_lookup_rpcs_bucket", kind="value", le="100"), 1)
        self.assertEqual(self.moved("kademlia_lookup_rpcs_count", kind="node"), 0)
        self.network.result(self.own.set("key", VALUE))
        for name in ("rpcs", "hops", "seconds"):
            self.assertEqual(self.moved(f"kademlia_lookup_{name}_count", kind="node"), 1)
            self.assertEqual(self.moved(f"kademlia_lookup_{name}_count", kind="value"), 1)


class Publications(Counting):
    """By kind and outcome."""

    def fail_to_publish(self, error: type[Exception], value: bytes = VALUE) -> None:
        """Publish in vain."""
        with self.assertRaises(error):
            self.network.result(self.own.publish("key", value))

    def fill(self, *servers: Server) -> None:
        """Let the stores of some peers have no room."""
        for server in servers:
            storage: Any = server.storage
            storage.max_keys = 0

    def test_an_acknowledged_publication_counts_with_its_replicas_and_duration(self) -> None:
        """The seconds are those of the lookup and the STOREs: two round trips at least."""
        published = self.network.result(self.own.publish("key", VALUE))
        self.assertEqual(self.publications(), {("publish", "acknowledged"): 1})
        self.assertEqual(published.replicas, 4)
        self.assertEqual(self.moved("kademlia_publication_replicas_sum", kind="publish"), 4)
        self.assertEqual(self.moved("kademlia_publication_replicas_bucket", kind="publish", le="3"), 0)
        self.assertEqual(self.moved("kademlia_publication_replicas_bucket", kind="publish", le="4"), 1)
        seconds = self.moved("kademlia_publication_seconds_sum", kind="publish")
        self.assertTrue(4 * self.network.latency <= seconds < 1, seconds)
        self.assertEqual(self.moved("kademlia_publication_seconds_count", kind="republish"), 0)

    def test_a_publication_that_every_holder_refuses_is_full(self) -> None:
        """It counts with no replica."""
        self.fill(*self.servers)
        self.fail_to_publish(QuotaExceeded)
        self.assertEqual(self.publications(), {("publish", "full"): 1})
        self.assertEqual(self.moved("kademlia_publication_replicas_bucket", kind="publish", le="0"), 1)

    def test_a_publication_that_reaches_nobody_is_unreachable(self) -> None:
        """However many peers are known."""
        for server in self.servers[1:]:
            self.network.kill(server)
        self.fail_to_publish(NoPeersReachable)
        self.assertEqual(self.publications(), {("publish", "unreachable"): 1})

    def test_a_publication_that_another_writer_outdoes_is_superseded(self) -> None:
        """Each time that it was raised."""
        other = self.servers[1]
        store = self.own.publisher.store

        async def outdone(*arguments: Any) -> Stored:
            await other.publish("key", b"theirs")
            return await store(*arguments)

        other.publisher.keeper.wall = lambda: self.network.wall() + HOUR
        self.patch(self.own.publisher, "store", outdone)
        self.fail_to_publish(Superseded)
        self.assertEqual(self.publications(), {("publish", "superseded"): 1})

    def test_a_value_too_large_counts_although_nobody_was_asked(self) -> None:
        """It would distort the histograms, and is in none."""
        self.fail_to_publish(ValueTooLarge, bytes(MAX_SIZE + 1))
        self.assertEqual(self.publications(), {("publish", "too large"): 1})
        self.assertEqual(self.moved("kademlia_publication_seconds_count", kind="publish"), 0)

    def test_a_publication_whose_client_leaves_is_cancelled(self) -> None:
        """The web server cancels what nobody waits for any more."""
        waiting = self.own.publish("key", VALUE)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertEqual(self.publications(), {("publish", "cancelled"): 1})

    def test_a_publication_that_the_own_store_fails_is_failed(self) -> None:
        """The replicas exist, but this peer cannot remember to republish them."""
        self.patch(self.own.storage, "publish", lambda publication: 1 // 0)
        self.fail_to_publish(ZeroDivisionError)
        self.assertEqual(self.publications(), {("publish", "failed"): 1})

    def republish(self, key: str) -> None:
        """Let the observed peer publish again what it is told that it published."""
        publication = Publication(digest(key), VALUE, 1, self.network.wall())
        self.network.result(ensureDeferred(self.own.publisher.republish(publication)))

    def test_publishing_again_counts_as_such(self) -> None:
        """Acknowledged, or superseded where a newer value was published, be it known before or learnt then."""
        self.republish("key")
        self.assertEqual(self.publications(), {("republish", "acknowledged"): 1})
        self.assertEqual(self.moved("kademlia_publication_replicas_sum", kind="republish"), 4)
        for here, counted in ((False, 2), (True, 2)):
            key = self.key_held(here=here)
            self.network.result(self.servers[1].set(key, b"newer"))
            self.republish(key)
            self.assertEqual(self.moved("kademlia_publication_seconds_count", kind="republish"), counted)
        expected = {("republish", "acknowledged"): 1.0, ("republish", "superseded"): 2.0}
        self.assertEqual(self.publications(), expected)

    def test_publishing_again_where_nobody_has_room_is_full(self) -> None:
        """That raises nowhere: it is tried again later."""
        self.fill(*self.servers)
        self.republish("key")
        self.assertEqual(self.publications(), {("republish", "full"): 1})


class Sent(Counting):
    """Records sent, by reason, and the bytes of their values."""

    def test_publishing_and_publishing_again_send_a_record_to_each_other_holder(self) -> None:
        """As many as STOREs that left; what the peer gives itself is no traffic."""
        key = self.key_held(here=True)
        published = self.network.result(self.own.publish(key, VALUE))
        stores = [target for source, target in requests(self.network, "store") if source == home(self.own)]
        self.assertEqual(len(stores), 3)
        self.assertEqual(self.by("kademlia_sent_records_total", "reason"), {"publish": 3})
        self.assertEqual(self.by("kademlia_sent_value_bytes_total", "reason"), {"publish": 3 * SIZE})
        publication = Publication(digest(key), VALUE, published.version, self.network.wall())
        self.network.result(ensureDeferred(self.own.publisher.republish(publication)))
        self.assertEqual(self.by("kademlia_sent_records_total", "reason"), {"publish": 3, "republish": 3})
        self.assertEqual(self.by("kademlia_received_records_total", "outcome"), {})

    def test_a_holder_that_replicates_sends_to_the_others(self) -> None:
        """It is made to find the record due."""
        key = self.key_held(here=True)
        self.own.publisher.keeper.accept(digest(key), VALUE, 1, HOUR, own=True)
        self.network.run(1)
        self.own.maintenance.doubt()
        self.network.run(2)
        self.assertEqual(self.by("kademlia_sent_records_total", "reason"), {"replicate": 3})
        self.assertEqual(self.by("kademlia_sent_value_bytes_total", "reason"), {"replicate": 3 * SIZE})

    def test_a_peer_that_joins_is_handed_what_belongs_to_it(self) -> None:
        """By the closest holder of each; the sum over the holders is what was given."""
        for number in range(40):
            self.network.result(self.servers[1].set(f"key {number}", VALUE))
        self.network.grow(1, ksize=4)
        self.network.run(2)
        handed = [server.stats.sent.records["handover"] for server in self.servers]
        self.assertGreater(sum(handed), 0)
        self.assertEqual(handed, [server.stats.maintenance["handover"] for server in self.servers])
        self.assertEqual(self.moved("kademlia_sent_records_total", reason="handover"), handed[0])
        self.assertEqual(self.moved("kademlia_sent_value_bytes_total", reason="handover"), handed[0] * SIZE)

    def test_who_missed_a_record_is_sent_it_when_it_is_heard_from_again(self) -> None:
        """Once, for that reason."""
        key = self.key_held(here=True)
        holder = next(s for s in self.network.closest(digest(key), 4) if s is not self.own)
        cut = {home(holder)}
        self.network.lost = lambda source, target: bool(cut & {source, target})
        self.network.result(self.own.set(key, VALUE))
        self.network.run(2)  # nobody waits for it, and it is given up meanwhile
        cut.clear()
        self.network.run(10)
        self.assertIn(holder, self.network.holders(digest(key)))
        self.assertEqual(self.moved("kademlia_sent_records_total", reason="missed"), 1)

    def test_a_found_value_is_sent_on_as_a_cache_entry(self) -> None:
        """To the closest peer that answered without it: here the two closest have lost it."""
        key = self.key_held(here=False)
        self.network.result(self.servers[1].set(key, VALUE))
        self.before = self.metrics()
        for server in self.network.closest(digest(key), 2):
            server.storage.delete(digest(key))
        self.assertEqual(self.network.result(self.own.get(key)), VALUE)
        self.assertEqual(self.by("kademlia_sent_records_total", "reason"), {"cache": 1})

    def test_a_holder_that_answers_with_an_older_value_is_repaired(self) -> None:
        """The closest one doubts its value, so that the reader asks on and meets the newer one."""
        key = self.key_held(here=False)
        first, *others = self.network.closest(digest(key), 4)
        first.publisher.keeper.accept(digest(key), b"old", 1, HOUR)
        for holder in others:
            holder.publisher.keeper.accept(digest(key), VALUE, 2, HOUR)
        self.network.run(2)
        first.publisher.keeper.doubted_before = self.network.wall()
        self.assertEqual(self.network.result(self.own.get(key)), VALUE)
        self.assertEqual(self.moved("kademlia_sent_records_total", reason="repair"), 1)
        self.assertEqual(self.moved("kademlia_sent_value_bytes_total", reason="repair"), SIZE)


class Received(Counting):
    """Records that others sent, by what became of them."""

    def store(self, value: bytes | str, version: int, count: int = 1) -> None:
        """Let another peer store a pair at the observed one, as a stock peer does without a version."""
        marks = {"v": version, "t": HOUR} if version else None
        for _ in range(count):
            asked = self.servers[1].protocol.call(
                home(self.own), "store", self.servers[1].id, digest("key"), value, extension=marks
            )
            self.assertTrue(self.network.result(asked).happened)

    def test_each_outcome_has_its_count_and_bytes(self) -> None:
        """The first, the same twice more, a newer one, an older one, and one for which there is no room."""
        self.store(VALUE, 5, count=3)
        self.store(b"newer", 6)
        self.store(VALUE, 5)
        storage: Any = self.own.storage
        storage.max_bytes = storage.size
        self.store(b"much longer", 7)
        expected = {"new": 1, "refreshed": 2, "newer": 1, "older": 1, "refused": 1}
        self.assertEqual(self.by("kademlia_received_records_total", "outcome"), expected)
        size = {"new": SIZE, "refreshed": 2 * SIZE, "newer": SIZE, "older": SIZE, "refused": 13}
        self.assertEqual(self.by("kademlia_received_value_bytes_total", "outcome"), size)

    def test_what_stock_peers_send_is_counted_alike(self) -> None:
        """They state no version: what they repeat after it was replaced is older, all else is newer."""
        self.store(VALUE, 0, count=2)
        self.store(b"other", 0)
        self.assertEqual(
            self.by("kademlia_received_records_total", "outcome"), {"new": 1, "refreshed": 1, "newer": 1}
        )
        self.store(b"ours 1", 1 << 50)
        self.store(b"ours 2", (1 << 50) + 1)
        self.store(b"ours 2", 0)
        self.store(b"ours 1", 0)
        expected = {"new": 1, "refreshed": 2, "newer": 3, "older": 1}
        self.assertEqual(self.by("kademlia_received_records_total", "outcome"), expected)
