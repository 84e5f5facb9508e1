"""`GET /metrics`: the peer's counters as Prometheus reads them, computed when asked for."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import CollectorRegistry, exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from kademlia.routing import MAX_FAILURES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prometheus_client.metrics_core import Metric

    from kademlia.network import Server
    from kademlia.stats import Histogram
    from kademlia.timing import RoundTrip
    from kademlia.web.api import Peer

#: what is shown of a distribution over contacts
QUANTILES: Final = (0.0, 0.5, 0.9, 0.99, 1.0)


class PeerCollector(Collector):
    """Reads `Stats` and the peer's state at each scrape; holds nothing itself."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family of the peer."""
        server, stats = self._peer.server, self._peer.server.stats
        yield GaugeMetricFamily("kademlia_uptime_seconds", "Seconds since start.", self._peer.uptime)
        state = GaugeMetricFamily("kademlia_state", "1 for the state the peer is in.", labels=["state"])
        for name in ("joining", "joined", "alone", "stopping"):
            state.add_metric([name], float(self._peer.state == name))
        yield state
        yield from _of_contacts(server)
        yield GaugeMetricFamily("kademlia_stored_keys", "Keys held for the network.", server.storage.count)
        yield GaugeMetricFamily("kademlia_stored_bytes", "Bytes of the values held.", server.storage.size)
        yield _counter("kademlia_rpcs", "RPCs by name and outcome.", ("rpc", "outcome"), stats.rpcs)
        yield _counter("kademlia_lookups", "Lookups by kind and outcome.", ("kind", "outcome"), stats.lookups)
        yield _counter("kademlia_dropped", "Datagrams dropped.", ("reason",), _keyed(stats.dropped))
        yield _counter(
            "kademlia_maintenance",
            "Periodic work: records expired, replicated, republished or handed over; buckets refreshed.",
            ("kind",),
            _keyed(stats.maintenance),
        )
        yield _counter(
            "kademlia_part_bytes", "Bytes of parts of large values.", ("direction",), _keyed(stats.part_bytes)
        )
        yield _counter("kademlia_pulls", "Large values fetched, by outcome.", ("outcome",), _keyed(stats.pulls))
        yield CounterMetricFamily("kademlia_retransmissions", "Requests sent again.", stats.retransmissions)
        yield _histogram("kademlia_lookup_seconds", "Duration of lookups.", stats.lookup_seconds)
        yield _histogram("kademlia_lookup_hops", "Hops of lookups.", stats.lookup_hops)


class Metrics:
    """Encodes one peer's metrics; a registry of its own lets many peers live in one process."""

    def __init__(self, peer: Peer) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(PeerCollector(peer))

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return the body and its content type: OpenMetrics where the Accept header names it, else plain text."""
        # prometheus_client's own choice fails on versions that are no numbers, and repeats them in the answer.
        if "application/openmetrics-text" in accept:
            encode: Any = openmetrics.generate_latest  # carries no annotations
            return encode(self._registry), openmetrics.CONTENT_TYPE_LATEST
        return exposition.generate_latest(self._registry), exposition.CONTENT_TYPE_PLAIN_0_0_4


def _of_contacts(server: Server) -> Iterator[Metric]:
    """Yield what the routing table knows of contacts, and the transport of the way to them."""
    states = dict.fromkeys(("good", "suspect", "stale", "replacement"), 0)
    measured: list[RoundTrip] = []
    for entry in server.table.entries():
        states["good" if not entry.failures else "stale" if entry.failures >= MAX_FAILURES else "suspect"] += 1
        round_trip = server.protocol.round_trips.get(entry.contact.home)
        if round_trip is not None:
            measured.append(round_trip)
    states["replacement"] = sum(len(bucket.replacements) for bucket in server.table.buckets)
    contacts = GaugeMetricFamily(
        "kademlia_contacts",
        "Contacts: good ones answer, suspect ones failed, stale ones may be dropped, replacements wait.",
        labels=["state"],
    )
    for state, count in states.items():
        contacts.add_metric([state], count)
    yield contacts
    yield GaugeMetricFamily("kademlia_buckets", "Buckets of the routing table.", len(server.table.buckets))
    yield GaugeMetricFamily("kademlia_measured_contacts", "Contacts with a round-trip estimate.", len(measured))
    yield _quantiles(
        "kademlia_round_trip_seconds",
        "Round-trip estimates of the contacts, by quantile.",
        [round_trip.smoothed for round_trip in measured],
    )
    yield _quantiles(
        "kademlia_request_timeout_seconds",
        "Seconds after which a request to a contact is sent again, by quantile over the contacts.",
        [round_trip.timeout for round_trip in measured],
    )


def _quantiles(name: str, text: str, values: list[float]) -> GaugeMetricFamily:
    """Return the nearest-rank quantiles of some values; a gauge, since each scrape sees another population."""
    family = GaugeMetricFamily(name, text, labels=["quantile"])
    values.sort()
    for quantile in QUANTILES if values else ():
        family.add_metric([f"{quantile:g}"], values[round(quantile * (len(values) - 1))])
    return family


def _keyed(counts: Mapping[str, int]) -> dict[tuple[str, ...], int]:
    return {(name,): count for name, count in counts.items()}


def _counter(name: str, text: str, labels: tuple[str, ...], counts: Mapping[Any, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, count in sorted(counts.items()):
        family.add_metric(values, count)
    return family


def _histogram(name: str, text: str, histogram: Histogram) -> HistogramMetricFamily:
    bounds = [*(f"{bound:g}" for bound in histogram.bounds), "+Inf"]
    counts = accumulate(histogram.counts)
    buckets = [(bound, float(count)) for bound, count in zip(bounds, counts, strict=True)]
    return HistogramMetricFamily(name, text, buckets=buckets, sum_value=histogram.total)
