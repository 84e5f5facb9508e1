"""Ours and PyPI's kademlia 2.2.3 in one network, each serving the other's keys."""

from __future__ import annotations

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
