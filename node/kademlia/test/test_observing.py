"""What a peer shows of itself over HTTP while it works among others: /metrics and traces of lookups."""

from __future__ import annotations

import random
from typing import Any

import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse
from twisted.trial.unittest import SynchronousTestCase

from kademlia.config import Settings
from kademlia.contact import Contact
from kademlia.ids import digest
from kademlia.records import MAX_SIZE
from kademlia.test.virtual import Network, home
from kademlia.test.webcase import LIMIT, Answer, FakePeer, Transport
from kademlia.web.api import API
from kademlia.web.site import PeerSite

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Observed(SynchronousTestCase):
    """Peers of a virtual network, the first of which is asked over HTTP."""

    def setUp(self) -> None:
        self.network = Network(latency=0.01)
        self.servers = list(self.network.grow(8, ksize=4))
        self.peer = FakePeer(self.servers[0], Settings("10.0.0.1"))
        self.site = PeerSite(API(self.peer, self.network).resource(), LIMIT, self.network)

    def ask(self, path: str, accept: str = "*/*", body: bytes | None = None) -> Answer:
        """GET a path, or PUT a body there, and let the network work until the answer is there."""
        channel, transport = self.site.buildProtocol(None), Transport()
        transport.protocol = channel
        channel.makeConnection(transport)
        method, length = ("GET", "") if body is None else ("PUT", f"Content-Length: {len(body)}\r\n")
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n{length}\r\n"
        channel.dataReceived(head.encode("latin-1") + (body or b""))
        for _ in range(10_000):
            if transport.value():
                return Answer(transport.value())
            self.network.advance(self.network.latency)
        raise AssertionError("no answer")

    def metrics(self) -> Samples:
        """Scrape, and read the text as Prometheus does."""
        text = self.ask("/metrics").body.decode()
        return {(s.name, frozenset(s.labels.items())): s.value for f in parse(text) for s in f.samples}

    def key_held(self, *, here: bool) -> str:
        """Return a key of which the observed peer is, or is not, one of the k closest."""
        keys = map(str, range(100))
        return next(k for k in keys if (self.servers[0] in self.network.closest(digest(k), 4)) is here)

    @staticmethod
    def value(samples: Samples, name: str, **labels: str) -> float:
        """Return a sample, 0 where there is none yet."""
        return samples.get((name, frozenset(labels.items())), 0.0)


class LargeValues(Observed):
    """Values of many datagrams, put and got over HTTP."""

    def setUp(self) -> None:
        super().setUp()
        self.site = PeerSite(API(self.peer, self.network).resource(), MAX_SIZE, self.network)

    def test_a_mebibyte_comes_back_as_it_was_put(self) -> None:
        """With what the network acknowledged; /storage lists it whole."""
        value = random.Random(3).randbytes(MAX_SIZE)
        put = self.ask("/dht/k", body=value)
        self.assertEqual((put.code, put.json["replicas"], put.json["size"]), (200, 4, MAX_SIZE))
        got = self.ask("/dht/k")
        self.assertEqual((got.code, got.body == value), (200, True))
        self.assertEqual(got.headers["x-kademlia-version"], str(put.json["version"]))
        for server in self.network.closest(digest(b"k"), 4):
            record = server.storage.get(digest(b"k"))
            assert record is not None
            row = record.as_json(self.network.wall())
            self.assertEqual((row["size"], row["value_sha1"]), (MAX_SIZE, digest(value).hex()))

    def test_a_byte_more_is_refused_and_the_answer_names_the_limit_and_the_setting(self) -> None:
        """As soon as it is announced."""
        refused = self.ask("/dht/k", body=bytes(MAX_SIZE + 1))
        self.assertEqual(refused.code, 413)
        self.assertIn(str(MAX_SIZE), refused.json["error"])
        self.assertIn("[storage] max_value", refused.json["error"])

    def test_a_value_that_no_holder_can_give_whole_is_not_said_to_be_missing(self) -> None:
        """503 says to try again; 404 would say that it is gone."""
        key = self.key_held(here=False)
        self.network.result(self.servers[1].set(key, bytes(20_000)))
        for server in self.network.servers:
            server.protocol._handlers["part"] = lambda *_: None
        self.assertEqual(self.ask(f"/dht/{key}").code, 503)

    def test_a_long_list_of_large_values_comes_page_by_page(self) -> None:
        """Whatever the pages of the store are."""
        for number in range(9):
            self.servers[0].publisher.keeper.accept(digest(number), bytes(MAX_SIZE), 1, 60)
        for limit in (3, 4, 5, 1000):
            keys, after = [], ""
            while after is not None:
                page = self.ask(f"/storage?limit={limit}&after={after}").json
                keys += [row["key"] for row in page["keys"]]
                after = page["next"]
            self.assertEqual(keys, sorted(digest(number).hex() for number in range(9)))


class Metrics(Observed):
    """Every group of counters is there, and moves with what it counts."""

    def moved(self, before: Samples, name: str, **labels: str) -> float:
        """Return by how much a sample differs from an earlier one."""
        return self.value(self.metrics(), name, **labels) - self.value(before, name, **labels)

    def test_both_texts_are_what_prometheus_reads(self) -> None:
        """Parsed by its own parsers, by the Accept header, with the same families."""
        plain = self.ask("/metrics")
        self.assertTrue(plain.headers["content-type"].startswith("text/plain"))
        modern = self.ask("/metrics", "application/openmetrics-text; version=1.0.0")
        self.assertTrue(modern.headers["content-type"].startswith("application/openmetrics-text"))
        names = {family.name.removesuffix("_total") for family in parse(plain.body.decode())}
        self.assertEqual({family.name for family in parse_openmetrics(modern.body.decode())}, names)

    def test_an_accept_header_of_any_bytes_is_answered(self) -> None:
        """Found by fuzzing: one that is no UTF-8 made the peer fail."""
        for accept in ("\xff", "text/plain;q=nan", "application/openmetrics-text;version=x"):
            self.assertEqual(self.ask("/metrics", accept).code, 200)

    def test_a_lookup_counts_with_its_outcome_hops_and_duration(self) -> None:
        """In seconds of the peer's own clock."""
        before = self.metrics()
        self.network.result(self.servers[0].get("missing"))
        self.assertEqual(self.moved(before, "kademlia_lookups_total", kind="value", outcome="missing"), 1)
        self.assertEqual(self.moved(before, "kademlia_lookup_hops_count", kind="value"), 1)
        self.assertEqual(self.moved(before, "kademlia_lookup_seconds_bucket", kind="value", le="+Inf"), 1)
        seconds = self.moved(before, "kademlia_lookup_seconds_sum", kind="value")
        self.assertGreaterEqual(seconds, 2 * self.network.latency)
        self.assertGreaterEqual(self.moved(before, "kademlia_rpcs_total", rpc="find_value", outcome="ok"), 4)

    def test_stored_keys_and_bytes_and_served_rpcs_follow_a_publication(self) -> None:
        """This peer is one of the holders here."""
        before = self.metrics()
        key = self.key_held(here=True)
        self.network.result(self.servers[1].set(key, b"value"))
        self.assertEqual(self.moved(before, "kademlia_stored_keys"), 1)
        self.assertGreaterEqual(self.moved(before, "kademlia_stored_bytes"), 5)
        self.assertEqual(self.moved(before, "kademlia_rpcs_total", rpc="store", outcome="served"), 1)

    def test_parts_and_fetched_values_count(self) -> None:
        """Bytes in both directions, and how each transfer ended."""
        before = self.metrics()
        self.network.result(self.servers[1].set(self.key_held(here=True), bytes(20_000)))
        self.assertEqual(self.moved(before, "kademlia_pulls_total", outcome="whole"), 1)
        self.assertEqual(self.moved(before, "kademlia_part_bytes_total", direction="pulled"), 20_003)
        self.network.result(self.servers[0].set(self.key_held(here=False), bytes(30_000)))
        self.assertGreaterEqual(self.moved(before, "kademlia_part_bytes_total", direction="served"), 4 * 30_003)

    def test_dead_contacts_become_suspect_and_stale_and_cost_retransmissions(self) -> None:
        """A state is that of the routing table; the sum is all contacts."""
        before = self.metrics()
        good = self.value(before, "kademlia_contacts", state="good")
        self.assertEqual(good, self.servers[0].contact_count)
        for server in self.servers[1:]:
            self.network.kill(server)
        self.network.result(self.servers[0].get("missing"))
        after = self.metrics()
        suspects = self.value(after, "kademlia_contacts", state="suspect")
        self.assertGreater(suspects, 0)
        self.assertEqual(self.value(after, "kademlia_contacts", state="good"), good - suspects)
        self.assertGreater(self.moved(before, "kademlia_retransmissions_total"), 0)
        self.assertGreater(self.moved(before, "kademlia_rpcs_total", rpc="find_value", outcome="timeout"), 0)
        self.network.run(120)
        self.assertGreater(self.moved(before, "kademlia_contacts", state="stale"), 0)

    def test_the_replacement_cache_is_counted(self) -> None:
        """Newcomers that find their bucket full."""
        table = self.servers[0].table
        table.bits, table.ksize = 1, 1  # every bucket is full now, and none may be split any more
        far = (1 << 159) ^ table.own_number
        for number in range(30):
            contact = Contact((far ^ number << 100).to_bytes(20, "big"), "10.1.0.1", 1000 + number)
            table.heard_from(contact, self.network.seconds())
        waiting = sum(len(bucket.replacements) for bucket in table.buckets)
        self.assertGreater(waiting, 0)
        self.assertEqual(self.value(self.metrics(), "kademlia_contacts", state="replacement"), waiting)

    def test_round_trips_of_the_contacts_are_shown_by_quantile(self) -> None:
        """Every contact here is 20 ms away."""
        self.assertEqual(self.value(self.metrics(), "kademlia_measured_contacts"), 0)  # it was only asked so far
        self.network.result(self.servers[0].get("missing"))
        samples = self.metrics()
        for quantile in ("0", "0.5", "0.9", "0.99", "1"):
            seconds = self.value(samples, "kademlia_round_trip_seconds", quantile=quantile)
            self.assertAlmostEqual(seconds, 2 * self.network.latency, places=3)
            wait = self.value(samples, "kademlia_request_timeout_seconds", quantile=quantile)
            self.assertGreater(wait, seconds)
        measured = self.value(samples, "kademlia_measured_contacts")
        self.assertTrue(0 < measured <= self.servers[0].contact_count)

    def test_dropped_datagrams_are_counted_by_reason(self) -> None:
        """One of each kind that anybody can send."""
        before, protocol = self.metrics(), self.servers[0].protocol
        protocol.datagramReceived(b"\xff", ("10.9.9.9", 1))
        protocol.datagramReceived(b"\x01" + bytes(20) + b"\xc0", ("10.9.9.9", 1))
        protocol.datagramReceived(b"\x00" + bytes(20) + b"\x92\xa4evil\x90", ("10.9.9.9", 1))
        for reason in ("malformed", "unasked", "unknown method"):
            self.assertEqual(self.moved(before, "kademlia_dropped_total", reason=reason), 1)

    def test_bytes_on_the_wire_are_counted_by_direction(self) -> None:
        """Those of every datagram that left and arrived, requests and answers alike."""
        before, own = self.metrics(), home(self.servers[0])
        self.network.sent.clear()
        self.network.result(self.servers[0].set("key", b"value"))
        sent = sum(len(datagram) for source, _, datagram in self.network.sent if source == own)
        received = sum(len(datagram) for _, target, datagram in self.network.sent if target == own)
        self.assertGreater(sent, 500)
        self.assertEqual(self.moved(before, "kademlia_datagram_bytes_total", direction="sent"), sent)
        self.assertEqual(self.moved(before, "kademlia_datagram_bytes_total", direction="received"), received)

    def test_periodic_work_is_counted_by_kind(self) -> None:
        """Within two intervals, at the peers that it fell to."""
        self.network.result(self.servers[0].set("ours", b"v"))
        before = self.metrics()
        self.network.run(150)
        for kind in ("refresh", "replicate"):
            done = sum(server.stats.maintenance[kind] for server in self.servers)
            self.assertGreater(done, 0, kind)
        self.assertGreater(self.moved(before, "kademlia_maintenance_total", kind="refresh"), 0)


class Traces(Observed):
    """`?trace=1` among real peers."""

    def trace(self, key: str) -> Any:
        """Return the trace of a lookup, of which everything documented is there."""
        answer = self.ask(f"/dht/{key}?trace=1")
        self.assertEqual(answer.code, 200)
        schemas = yaml.safe_load(self.ask("/openapi.yaml").body)["components"]["schemas"]
        self.assertEqual(set(answer.json), set(schemas["Trace"]["required"]))
        for step in answer.json["steps"]:
            self.assertEqual(set(step), set(schemas["Step"]["required"]))
            self.assertIn(step["event"], schemas["Step"]["properties"]["event"]["enum"])
        return answer.json

    def test_a_found_value_ends_the_trace(self) -> None:
        """The holder's answer is the last step."""
        key = self.key_held(here=False)
        self.network.result(self.servers[1].set(key, b"v"))
        trace = self.trace(key)
        self.assertEqual((trace["key"], trace["found"]), (key, True))
        self.assertEqual(trace["steps"][-1]["event"], "value")
        self.assertEqual(trace["hops"], trace["steps"][-1]["hop"])
        asked = [step for step in trace["steps"] if step["event"] == "asked"]
        self.assertEqual(trace["requests"], len(asked))

    def test_a_value_held_here_takes_no_step(self) -> None:
        """Nobody is asked."""
        key = self.key_held(here=True)
        version = self.network.result(self.servers[1].publish(key, b"v")).version
        self.network.sent.clear()
        trace = self.trace(key)
        self.assertEqual((trace["found"], trace["version"]), (True, version))
        self.assertEqual((trace["hops"], trace["requests"], trace["steps"]), (0, 0, []))
        self.assertEqual(self.network.sent, [])

    def test_a_value_held_here_in_doubt_shows_whom_else_was_asked(self) -> None:
        """The value is the own one all the same where nobody has a newer one: no hop led to it."""
        key = self.key_held(here=True)
        self.servers[0].publisher.keeper.accept(digest(key), b"v", 7, 1000.0)
        self.network.run(1)
        self.servers[0].publisher.keeper.doubted_before = self.network.wall()
        trace = self.trace(key)
        self.assertEqual((trace["found"], trace["version"], trace["hops"]), (True, 7, 0))
        self.assertGreaterEqual(trace["requests"], 3)

    def test_everyone_asked_comes_to_one_end(self) -> None:
        """In a lookup that ran to its end, some of them dead: answered or failed, with the hop of the question."""
        self.network.kill(self.servers[2])
        steps = self.trace("missing")["steps"]
        ends = {"answered", "failed"}
        for asked in (step for step in steps if step["event"] == "asked"):
            ended = [step for step in steps if step["id"] == asked["id"] and step["event"] in ends]
            self.assertEqual([step["hop"] for step in ended], [asked["hop"]])
            self.assertGreaterEqual(ended[0]["at"], asked["at"] + 2 * self.network.latency - 1e-6)

    def test_where_nobody_answers_there_is_no_trace_but_an_error(self) -> None:
        """As for the value itself: that says nothing about it."""
        for server in self.servers[1:]:
            self.network.kill(server)
        answer = self.ask("/dht/missing?trace=1")
        self.assertEqual((answer.code, list(answer.json)), (503, ["error"]))

    def test_where_nobody_is_known_nothing_is_found_in_no_step(self) -> None:
        """A peer that is alone is the whole network."""
        self.peer.server = Network().grow(1)[0]
        self.site = PeerSite(API(self.peer, self.network).resource(), LIMIT, self.network)
        trace = self.trace("missing")
        self.assertEqual((trace["found"], trace["version"]), (False, None))
        self.assertEqual((trace["hops"], trace["requests"], trace["steps"]), (0, 0, []))

    def test_a_missing_value_names_everyone_asked(self) -> None:
        """In the order of time, with a distance that is that of the key and the peer."""
        trace = self.trace("missing")
        self.assertEqual((trace["found"], trace["version"]), (False, None))
        times = [step["at"] for step in trace["steps"]]
        self.assertEqual(times, sorted(times))
        for step in trace["steps"]:
            self.assertEqual(int(step["distance"], 16), int(step["id"], 16) ^ int(trace["target"], 16))
        homes = {home(server) for server in self.servers}
        self.assertLessEqual({(step["address"], step["port"]) for step in trace["steps"]}, homes)

    def test_the_dead_are_slow_and_then_failed(self) -> None:
        """Each of them is seen to be asked, overdue, and given up."""
        doomed = self.servers[1]
        self.network.kill(doomed)
        key = "missing"
        events = [step["event"] for step in self.trace(key)["steps"] if step["id"] == doomed.id.hex()]
        self.assertEqual(events, ["asked", "slow", "failed"])
