"""docs/metrics.md lists what `/metrics` shows: names, types, labels and their values agree, in both directions."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from kademlia.test.virtual import Network
from kademlia.web.metrics import PeerCollector

ROOT = Path(__file__).parents[1]
NODE = ROOT / "node/kademlia"
ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| (.*?) \| (.+) \|$", re.MULTILINE)


class Row(NamedTuple):
    """What the page says of one metric."""

    type: str
    #: label to its values
    labels: dict[str, set[str]]


def labels_in(cell: str) -> dict[str, set[str]]:
    return {name: set(values.split(", ")) for name, values in re.findall(r"`(\w+)`: ([^;]+)", cell)}


TABLE = {
    name: Row(kind, labels_in(labels))
    for name, kind, labels, _ in ROW.findall((ROOT / "docs/metrics.md").read_text("utf-8").replace("| |", "|  |"))
}


@pytest.fixture(scope="module")
def families() -> dict[str, Any]:
    """Return the metric families of a peer of a network that has worked for a while, by their name in the text."""
    network = Network(latency=0.01)
    servers = network.grow(6, ksize=4)
    for number in range(10):
        network.result(servers[0].set(number, b"v"))
        network.result(servers[1].get(number))
        network.result(servers[0].get(-1 - number))
    network.run(150)
    peer: Any = SimpleNamespace(server=servers[0], uptime=1.0, state="joined")
    found = list(PeerCollector(peer).collect())
    return {family.name + "_total" * (family.type == "counter"): family for family in found}


def test_the_page_and_the_code_have_the_same_metrics(families: dict[str, Any]) -> None:
    assert set(TABLE) == set(families)
    assert {name: row.type for name, row in TABLE.items()} == {name: f.type for name, f in families.items()}


@pytest.mark.parametrize("name", TABLE)
def test_a_metric_has_the_labels_of_its_row(families: dict[str, Any], name: str) -> None:
    assert list(TABLE[name].labels) == list(families[name]._labelnames)
    for sample in families[name].samples:
        for label, value in sample.labels.items():
            assert label == "le" or value in TABLE[name].labels[label]


@pytest.mark.parametrize("name", TABLE)
def test_every_value_of_a_label_is_shown_or_at_least_in_the_code(families: dict[str, Any], name: str) -> None:
    """Those that are not shown before they were counted are text somewhere in the peer, or one of its RPCs."""
    texts = {
        node.value
        for path in (*NODE.glob("*.py"), *NODE.glob("web/*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    for label, values in TABLE[name].labels.items():
        shown = {sample.labels[label] for sample in families[name].samples}
        assert values - shown - texts == set()


@pytest.mark.parametrize("name", TABLE)
def test_a_name_follows_the_conventions_of_prometheus(name: str) -> None:
    """Counters end in _total; what is measured is in base units."""
    assert re.fullmatch(r"kademlia_[a-z_]+", name)
    assert name.endswith("_total") is (TABLE[name].type == "counter")
    assert not re.search(r"milli|micro|minutes|hours|kilo|mebi", name)
