"""Where PyPI's kademlia 2.2.3 falls short: the rows marked * in docs/paper.md, shown on its own code.

Each test states what the stock implementation does; docs/paper.md names the one that shows what ours does instead.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

STOCK_PYTHON = os.environ.get("STOCK_PYTHON", Path(__file__).parents[2] / ".venv-stock/bin/python")

Results = dict[str, Any]


@pytest.fixture(scope="module")
def stock() -> Results:
    """Return what the experiments of `stock_faults.py` returned, each of them on a network of its own."""
    script = Path(__file__).with_name("stock_faults.py")
    done = subprocess.run([STOCK_PYTHON, script], capture_output=True, check=True, timeout=120)
    results: Results = json.loads(done.stdout)
    return results


def test_stock_does_not_refresh_the_place_of_a_contact_that_speaks(stock: Results) -> None:
    """Section 2.2: the least recently seen contact is the same one before and after it sent a request."""
    before, after = stock["a_request_leaves_its_sender_where_it_was"]
    assert before == after


def test_stock_pings_the_same_contact_for_every_newcomer(stock: Results) -> None:
    """Section 2.2: it answered, so the next one's turn would be due; the others are never tried."""
    pinged = stock["the_same_contact_is_pinged_for_every_newcomer"]
    assert len(pinged) > 1
    assert len(set(pinged)) == 1


def test_stock_ignores_a_changed_address_for_ever(stock: Results) -> None:
    """Section 2.2: a peer that moved stays at its old address, and nobody asks whether it is there."""
    assert stock["a_new_address_is_ignored_and_not_verified"] == ["10.1.5.1", 0]


def test_a_stock_lookup_waits_five_seconds_for_a_dead_peer(stock: Results) -> None:
    """Section 2.3: milliseconds while all live; the α requests of a round wait for each other."""
    alive, dead = stock["one_dead_peer_costs_a_lookup_five_seconds"]
    assert alive < 0.1
    assert dead >= 5


def test_a_stock_reader_that_was_answered_waits_for_the_dead(stock: Results) -> None:
    """Section 2.3: the value that came after two milliseconds is returned after five seconds."""
    assert stock["a_value_waits_for_the_dead_asked_with_its_holder"] >= 5


def test_a_stock_cached_copy_lives_a_week(stock: Results) -> None:
    """Section 2.3: however far from the key it is."""
    assert stock["a_cached_copy_lives_as_long_as_a_replica"]


def test_a_stock_join_refreshes_no_bucket(stock: Results) -> None:
    """Section 2.3: it looks up its own ID and nothing else, though it has buckets that are farther away."""
    looked_up, buckets = stock["a_join_is_the_self_lookup_only"]
    assert looked_up == 1
    assert buckets > 2


def test_stock_replication_keeps_a_pair_alive_for_ever(stock: Results) -> None:
    """Section 2.3: twenty days after its publisher left, with lives of a week."""
    assert stock["replication_extends_the_life"]


def test_a_stock_publisher_does_not_remember_what_it_published(stock: Results) -> None:
    """Section 2.3: so that it cannot republish it every 24 hours."""
    assert stock["a_publisher_forgets_what_it_published"] == []


def test_a_stock_peer_forgets_some_of_its_closest_neighbours(stock: Results) -> None:
    """Section 2.4: in some of 200 random networks it does not know its own k-subtree, having met everybody."""
    assert stock["neighbours_are_forgotten"] > 0


def test_stock_replication_looks_up_every_key(stock: Results) -> None:
    """Section 2.5: also those that are its own, with all its neighbours known and refreshed."""
    assert stock["replicating_a_pair_takes_a_lookup"] > 0


def test_stock_hands_over_by_the_wrong_key(stock: Results) -> None:
    """Section 2.5: it hashes the digest again, so that a newcomer closest to a pair gets it by chance only."""
    expected, given = stock["a_joining_peer_is_given_the_wrong_pairs"]
    assert expected > 50
    assert given < expected


def test_stock_drops_a_contact_after_one_lost_datagram(stock: Results) -> None:
    """Section 4.1: the contact is alive, and the table empty."""
    assert stock["one_lost_datagram_drops_a_contact"] == [1, 0]


def test_stock_takes_itself_in(stock: Results) -> None:
    """A stranger that claims the peer's own ID gets a place in its table."""
    assert stock["the_own_id_is_taken_in"]


def test_stock_puts_an_id_at_the_edge_into_the_wrong_bucket(stock: Results) -> None:
    """The last ID of a range goes to the next one."""
    assert stock["an_id_at_the_edge_is_in_the_wrong_bucket"]


def test_stock_reports_a_set_that_nobody_acknowledged_as_success(stock: Results) -> None:
    """`any` of the tuples (False, None) is True."""
    assert stock["set_without_acknowledgement_is_a_success"] is True


def test_stock_searches_its_table_for_every_stored_key_when_it_meets_someone(stock: Results) -> None:
    """All of it in one turn of the loop."""
    assert stock["a_new_contact_costs_every_stored_key"] >= 500


def test_an_old_stock_copy_overwrites_a_newer_value(stock: Results) -> None:
    """A holder that missed the second publication replicates the first."""
    assert stock["an_old_copy_overwrites_a_newer_value"] == "old"


def test_a_stock_state_file_runs_code(stock: Results) -> None:
    """It is a pickle."""
    assert stock["a_state_file_runs_what_is_in_it"]
