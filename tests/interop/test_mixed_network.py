"""Ours and PyPI's kademlia 2.2.3 in one network, each serving the other's keys."""

from __future__ import annotations

import json
import random
from typing import Any


def test_two_stock_peers_join_our_network_and_each_side_reads_the_others_keys(mixed: Any) -> None:
    """With fewer replicas than peers, so that keys really live on the other side."""
    network = mixed(ours=4, stock=2, ksize=3)
    rng = random.Random(1)
    for number in range(30):
        assert rng.choice(network.ours).set(f"ours-{number}", b"from ours \x00\xff %d" % number)
        assert rng.choice(network.stock).set(f"stock-{number}", b"from stock \x00\xff %d" % number)
    for number in range(30):
        for reader in (*network.stock, rng.choice(network.ours)):
            assert reader.get(f"ours-{number}") == b"from ours \x00\xff %d" % number
        for peer in (*network.ours, rng.choice(network.stock)):
            assert peer.get(f"stock-{number}") == b"from stock \x00\xff %d" % number


def test_a_missing_key_is_missing_on_both_sides(mixed: Any) -> None:
    """Neither implementation takes the other's contact lists for a value."""
    network = mixed(ours=3, stock=2, ksize=3)
    for peer in (*network.ours, *network.stock):
        assert peer.get("nobody-ever-set-this") is None


def test_ten_and_ten_serve_each_others_keys_also_after_five_were_killed(mixed: Any) -> None:
    """Set from random peers, read from random peers on the other side, then five of either kind are killed."""
    network = mixed(ours=10, stock=10, ksize=8)
    rng = random.Random(2)
    values = {f"key-{number}": b"value %d" % number for number in range(500)}
    sides = (network.ours, network.stock)
    for number, (key, value) in enumerate(values.items()):
        assert rng.choice(sides[number % 2]).set(key, value)
    for number, (key, value) in enumerate(values.items()):
        assert rng.choice(sides[(number + 1) % 2]).get(key) == value
    doomed = rng.sample([*network.ours[1:], *network.stock], 5)
    for peer in doomed:
        peer.kill()
        (network.ours if peer in network.ours else network.stock).remove(peer)
    # A stock reader waits 5 s for each dead peer that it meets: a sample of keys is read there, all are read here.
    for key, value in values.items():
        assert rng.choice(network.ours).get(key) == value
    for key in rng.sample(sorted(values), 10):
        assert rng.choice(network.stock).get(key) == values[key]


def test_large_values_are_read_among_ours_and_stock_peers_are_not_disturbed(mixed: Any) -> None:
    """Half of the peers are stock peers, often all of the k closest: they are asked only what they know."""
    network = mixed(ours=6, stock=6, ksize=3)
    rng = random.Random(3)
    values = {f"large-{number}": rng.randbytes(rng.randrange(8_000, 300_000)) for number in range(10)}
    values["mebibyte"] = rng.randbytes(1 << 20)
    for key, value in values.items():
        published = json.loads(rng.choice(network.ours).request(f"/dht/{key}", value))
        assert published["replicas"] == published["asked"] == 3
        assert rng.choice(network.stock).set(f"small-{key}", b"from stock")
    for key, value in values.items():
        for peer in network.ours:
            assert peer.get(key) == value
            assert peer.get(f"small-{key}") == b"from stock"
        if len(value) > 8_137:
            assert rng.choice(network.stock).get(key) is None
    network.ours.pop(1).kill()
    for key, value in values.items():
        assert rng.choice(network.ours).get(key) == value
    for stock in network.stock:
        assert stock.asked() <= {"ping", "stun", "store", "find_node", "find_value"}
