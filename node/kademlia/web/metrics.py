"""`GET /metrics`: the peer's counters as Prometheus reads them, computed when asked for."""

from __future__ import annotations

from itertools import accumulate, product
from typing import TYPE_CHECKING, Any, Final, get_args

from prometheus_client import CollectorRegistry, exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from kademlia.routing import MAX_FAILURES
from kademlia.stats import (
    DropReason,
    MaintenanceKind,
    PartDirection,
    PublicationKind,
    PublicationOutcome,
    PullOutcome,
    Reason,
    Reception,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prometheus_client.metrics_core import Metric

    from kademlia.network import Server
    from kademlia.stats import Histogram, Stats
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
        yield _counter("kademlia_dropped", "Datagrams dropped.", ("reason",), _filled(DropReason, stats.dropped))
        yield _counter(
            "kademlia_maintenance",
            "Periodic work: records expired, replicated, republished or handed over; buckets refreshed.",
            ("kind",),
            _filled(MaintenanceKind, stats.maintenance),
        )
        yield _counter(
            "kademlia_part_bytes",
            "Bytes of parts of large values.",
            ("direction",),
            _filled(PartDirection, stats.part_bytes),
        )
        yield _counter(
            "kademlia_pulls", "Large values fetched, by outcome.", ("outcome",), _filled(PullOutcome, stats.pulls)
        )
        yield CounterMetricFamily("kademlia_retransmissions", "Requests sent again.", stats.retransmissions)
        yield _counter(
            "kademlia_datagram_bytes",
            "Bytes of UDP datagrams, without their headers.",
            ("direction",),
            {("sent",): stats.bytes_sent, ("received",): stats.bytes_received},
        )
        yield from _of_lookups(stats)
        yield from _of_publications(stats)
        yield from _of_records(stats)


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


def _of_lookups(stats: Stats) -> Iterator[Metric]:
    """Yield how lookups ended, and what they took."""
    yield _counter("kademlia_lookups", "Lookups by kind and outcome.", ("kind", "outcome"), stats.lookups)
    kinds = stats.lookup.items()
    yield _histogram(
        "kademlia_lookup_seconds", "Duration of lookups.", {kind: lookup.seconds for kind, lookup in kinds}
    )
    yield _histogram(
        "kademlia_lookup_hops",
        "Requests in a row until the value, or in the longest chain.",
        {kind: lookup.hops for kind, lookup in kinds},
    )
    yield _histogram(
        "kademlia_lookup_rpcs", "Peers asked per lookup.", {kind: lookup.rpcs for kind, lookup in kinds}
    )


def _of_publications(stats: Stats) -> Iterator[Metric]:
    """Yield how publications ended, and what they took."""
    known = dict.fromkeys(product(get_args(PublicationKind), get_args(PublicationOutcome)), 0)
    yield _counter(
        "kademlia_publications",
        "Publications by kind and outcome.",
        ("kind", "outcome"),
        known | stats.publications,
    )
    kinds = stats.publication.items()
    yield _histogram(
        "kademlia_publication_seconds",
        "Duration of publications, their lookup included.",
        {kind: publication.seconds for kind, publication in kinds},
    )
    yield _histogram(
        "kademlia_publication_replicas",
        "Holders that acknowledged a publication.",
        {kind: publication.replicas for kind, publication in kinds},
    )


def _of_records(stats: Stats) -> Iterator[Metric]:
    """Yield which records went to and came from other peers."""
    for direction, label, labels, traffic in (
        ("sent", "reason", Reason, stats.sent),
        ("received", "outcome", Reception, stats.received),
    ):
        records, size = _filled(labels, traffic.records), _filled(labels, traffic.bytes)
        yield _counter(f"kademlia_{direction}_records", f"Records {direction}, by {label}.", (label,), records)
        yield _counter(
            f"kademlia_{direction}_value_bytes", f"Bytes of the values of records {direction}.", (label,), size
        )


def _quantiles(name: str, text: str, values: list[float]) -> GaugeMetricFamily:
    """Return the nearest-rank quantiles of some values; a gauge, since each scrape sees another population."""
    family = GaugeMetricFamily(name, text, labels=["quantile"])
    values.sort()
    for quantile in QUANTILES if values else ():
        family.add_metric([f"{quantile:g}"], values[round(quantile * (len(values) - 1))])
    return family


def _filled(labels: Any, counts: Mapping[Any, int]) -> dict[tuple[str, ...], int]:
    """Return counts of the values of one label, a `Literal`, as samples: also of what did not happen yet."""
    return {(value,): counts.get(value, 0) for value in get_args(labels)}


def _counter(name: str, text: str, labels: tuple[str, ...], counts: Mapping[Any, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, count in sorted(counts.items()):
        family.add_metric(values, count)
    return family


def _histogram(name: str, text: str, histograms: Mapping[Any, Histogram]) -> HistogramMetricFamily:
    """Return the histograms of several kinds as one family."""
    family = HistogramMetricFamily(name, text, labels=["kind"])
    for kind, histogram in histograms.items():
        bounds = [*(f"{bound:g}" for bound in histogram.bounds), "+Inf"]
        counts = accumulate(histogram.counts)
        buckets = [(bound, float(count)) for bound, count in zip(bounds, counts, strict=True)]
        family.add_metric([kind], buckets, histogram.total)
    return family
