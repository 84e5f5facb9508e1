"""The routing table (paper, sections 2.2, 2.4, 4.1, 4.2)."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kademlia.contact import Contact
from kademlia.ids import ID_BITS, random_id, to_bytes, to_int
from kademlia.routing import BACKOFF, CUT_OFF_FAILURES, MAX_FAILURES, RoutingTable

OWN = to_bytes(0)
ids = st.integers(1, 2**ID_BITS - 1)


def contact(number: int, port: int = 1) -> Contact:
    """Return a contact with that ID."""
    return Contact(to_bytes(number), "10.0.0.1", port)


def far(number: int) -> Contact:
    """Return a contact in the half of the ID space that the own ID is not in."""
    return contact(2 ** (ID_BITS - 1) + number)


def table(ksize: int = 20, bits: int = 1) -> RoutingTable:
    """Return an empty table of the peer with the ID 0."""
    return RoutingTable(OWN, ksize, now=0.0, bits=bits)


class Closest(SynchronousTestCase):
    """Section 2.3: FIND_NODE answers with exactly the k closest known."""

    @settings(max_examples=150, deadline=None)
    @given(st.sets(ids, min_size=1, max_size=200), ids, st.integers(1, 30), st.integers(1, 8))
    def test_closest_are_exactly_the_k_closest_in_the_table(
        self, numbers: set[int], target: int, count: int, ksize: int
    ) -> None:
        """Visiting buckets in XOR order gives what sorting all contacts gives."""
        known = table(ksize)
        for number in sorted(numbers):
            known.heard_from(contact(number), 0.0)
        want = sorted((entry.number for entry in known.entries()), key=lambda n: n ^ target)[:count]
        assert [to_int(c.id) for c in known.closest(target, count)] == want

    def test_suspects_and_the_excluded_are_left_out(self) -> None:
        """A peer is not told of itself, nor of contacts that failed."""
        known = table()
        for number in (1, 2, 3):
            known.heard_from(contact(number), 0.0)
        known.failed(contact(1), 0.0)
        assert [to_int(c.id) for c in known.closest(0, 20, exclude=to_bytes(3))] == [2]

    def test_the_own_id_never_enters_the_own_table(self) -> None:
        """Kademlia 2.2.3 takes itself in when a message claims its ID."""
        known = table()
        assert known.heard_from(contact(0), 0.0) == (False, False, None)
        assert len(known) == 0


class Buckets(SynchronousTestCase):
    """Sections 2.2 and 2.4: what is kept where."""

    @settings(max_examples=100, deadline=None)
    @given(st.lists(ids, max_size=300), st.integers(1, 6), st.integers(1, 5))
    def test_buckets_partition_the_id_space_and_none_is_overfull(
        self, numbers: list[int], ksize: int, bits: int
    ) -> None:
        """Whatever is heard, every ID has one bucket, every contact is in its own, none has more than k."""
        known = table(ksize, bits)
        for number in numbers:
            known.heard_from(contact(number), 0.0)
        edge = 0
        for bucket in known.buckets:
            assert bucket.lower == edge
            edge += bucket.span
            assert len(bucket.entries) <= ksize
            assert all(bucket.covers(entry.number) for entry in bucket.entries.values())
        assert edge == 2**ID_BITS

    def test_an_id_at_the_upper_edge_is_in_the_upper_bucket(self) -> None:
        """Kademlia 2.2.3 puts the last ID of a range into the next one."""
        known = table(ksize=1)
        middle = 2 ** (ID_BITS - 1)
        known.heard_from(contact(middle), 0.0)
        known.heard_from(contact(middle - 1), 0.0)
        assert known.bucket_for(middle - 1).lower == 0
        assert known.bucket_for(middle).lower == middle
        assert known.bucket_for(2**ID_BITS - 1).lower == middle
        for bucket in known.buckets:
            assert bucket.covers(bucket.lower)
            assert bucket.covers(bucket.lower + bucket.span - 1)
            assert not bucket.covers(bucket.lower - 1)
            assert not bucket.covers(bucket.lower + bucket.span)

    def test_the_bucket_of_the_own_id_is_split_whenever_it_is_full(self) -> None:
        """Also for a contact that is farther than k others; whoever was known still is."""
        known = table(ksize=2)
        for number in (1, 2):
            known.heard_from(contact(number), 0.0)
        known.heard_from(far(1), 0.0)
        assert [entry.number for entry in known.entries()] == [1, 2, to_int(far(1).id)]
        assert known.bucket_for(0) is not known.bucket_for(to_int(far(1).id))

    def test_who_waits_for_a_place_waits_in_the_right_half_of_a_split(self) -> None:
        """And moves up where there is a place now."""
        known = table(ksize=2)
        known.heard_from(contact(1), 0.0)
        low, high = far(10 << 150), far(300 << 150)
        waiting = far(20 << 150), far(301 << 150), far(302 << 150)
        for one in (low, high, *waiting):
            known.heard_from(one, 0.0)
        assert [known.get(one.id) for one in waiting] == [None] * 3
        known.heard_from(far(0), 0.0)  # is among the k closest, so the bucket is split
        assert {to_int(one.id) for one in (low, high, far(0), waiting[0], waiting[2])} <= {
            entry.number for entry in known.entries()
        }
        assert list(known.bucket_for(to_int(high.id)).replacements) == [waiting[1].id]

    @settings(max_examples=50, deadline=None)
    @given(st.integers(0, 10**9))
    def test_the_subtree_of_the_k_closest_is_known_whole(self, seed: int) -> None:
        """Section 2.4: whatever the order of arrival, the k closest to the own ID are all kept."""
        rng = random.Random(seed)
        known = table(ksize=4)
        numbers = [to_int(random_id(rng)) for _ in range(60)] + [rng.randrange(1, 2**100) for _ in range(20)]
        rng.shuffle(numbers)
        for number in numbers:
            known.heard_from(contact(number), 0.0)
        kept = {entry.number for entry in known.entries()}
        assert set(sorted(numbers)[:4]) <= kept

    def test_hearing_from_a_contact_moves_it_to_the_tail(self) -> None:
        """Section 2.2: a bucket is ordered by when its contacts were last heard from."""
        known = table()
        for number in (1, 2, 3):
            known.heard_from(contact(number), 0.0)
        known.heard_from(contact(1), 1.0)
        assert [entry.number for entry in known.entries()] == [2, 3, 1]

    def test_more_bits_keep_more_contacts_of_far_subtrees(self) -> None:
        """Section 4.2: with b bits a far subtree is split, and a lookup may skip levels."""
        sizes = []
        for bits in (1, 5):
            known = table(ksize=2, bits=bits)
            for number in range(200):
                known.heard_from(far(number << 150), 0.0)
            sizes.append(len(known))
        assert sizes[0] == 2
        assert sizes[1] > 8


class FullBucket(SynchronousTestCase):
    """Sections 2.2 and 4.1: the least recently seen contact stays for as long as it answers."""

    def setUp(self) -> None:
        self.table = table(ksize=2)
        for number in (1, 2, 3):
            self.table.heard_from(contact(number), 0.0)  # the own half has room for splitting
        self.table.heard_from(far(1), 0.0)
        self.table.heard_from(far(2), 0.0)

    def test_a_newcomer_makes_the_least_recently_seen_be_pinged(self) -> None:
        """Kademlia 2.2.3 pings it too, but forgets the newcomer and never orders by sight."""
        heard = self.table.heard_from(far(3), 1.0)
        assert heard == (False, False, far(1))
        assert self.table.get(far(3).id) is None

    def test_an_answering_contact_stays_and_the_newcomer_waits(self) -> None:
        """The newcomer is in the replacement cache only."""
        self.table.heard_from(far(3), 1.0)
        self.table.heard_from(far(1), 1.1)
        assert self.table.get(far(3).id) is None
        assert self.table.heard_from(far(3), 2.0).probe == far(2)

    def test_five_failures_in_a_row_bring_the_latest_newcomer_in(self) -> None:
        """Section 4.1; kademlia 2.2.3 drops a contact after one lost datagram."""
        self.table.heard_from(far(3), 1.0)
        self.table.heard_from(far(4), 1.0)
        now = 1.0
        for failure in range(1, MAX_FAILURES + 1):
            assert self.table.get(far(1).id) is not None, f"dropped before failure {failure}"
            self.table.failed(far(1), now)
            now += BACKOFF * 2 ** (failure - 1)
        assert self.table.get(far(1).id) is None
        assert self.table.get(far(4).id) is not None

    def test_a_newcomer_that_is_seen_again_is_the_latest_one(self) -> None:
        """Section 4.1: the replacement cache is ordered by sight, as buckets are."""
        for number in (3, 4, 3):
            self.table.heard_from(far(number), 1.0)
        for failure in range(MAX_FAILURES):
            self.table.failed(far(1), 100.0 * failure)
        assert self.table.get(far(3).id) is not None
        assert self.table.get(far(4).id) is None

    def test_a_suspect_is_tried_again_after_the_longest_back_off_at_the_latest(self) -> None:
        """Or a partition would last for its own duration again."""
        known = RoutingTable(OWN, 20, 0.0, longest_backoff=4.0)
        known.heard_from(contact(7), 0.0)
        entry, waits, now = known.get(contact(7).id), [], 0.0
        assert entry is not None
        for _ in range(200):
            known.failed(contact(7), now)
            waits.append(entry.retry_at - now)
            now = entry.retry_at
        assert waits == [BACKOFF, 2 * BACKOFF] + [4.0] * 198

    def test_a_suspect_is_drawn_as_often_as_there_are_suspects_among_all(self) -> None:
        """One dead contact is no reason for a ping each second; silence of all is."""
        known, rng = table(), random.Random(1)
        for number in range(1, 11):
            known.heard_from(contact(number), 0.0)
        assert [known.suspect_by_chance(rng) for _ in range(100)] == [None] * 100
        known.failed(contact(3), 1.0)
        drawn = [known.suspect_by_chance(rng) for _ in range(1000)]
        assert set(drawn) == {None, contact(3)}
        assert 60 < drawn.count(contact(3)) < 140
        for number in range(1, 11):
            known.failed(contact(number), 1.0)
        assert {known.suspect_by_chance(rng) for _ in range(200)} == {contact(n) for n in range(1, 11)}

    def test_a_stale_contact_is_flagged_but_kept_where_nobody_can_replace_it(self) -> None:
        """Section 4.1: without replacements, contacts come back after a failure of the network."""
        for attempt in range(MAX_FAILURES + 3):
            self.table.failed(far(1), attempt * 1000.0)
        entry = self.table.get(far(1).id)
        assert entry is not None
        assert entry.suspect
        self.table.heard_from(far(1), 9000.0)
        assert not entry.suspect

    def test_calls_that_fail_together_count_as_one_failure(self) -> None:
        """A lookup and a store to a dead peer time out together; the back-off is between failures."""
        self.table.failed(far(1), 1.0)
        self.table.failed(far(1), 1.0)
        entry = self.table.get(far(1).id)
        assert entry is not None
        assert (entry.failures, entry.retry_at) == (1, 1.0 + BACKOFF)
        assert self.table.retriable(1.0 + BACKOFF / 2) == []
        assert self.table.retriable(1.0 + BACKOFF) == [far(1)]
        self.table.failed(far(1), 1.0 + BACKOFF)
        assert entry.retry_at == 1.0 + BACKOFF + 2 * BACKOFF

    def test_the_replacement_cache_is_bounded(self) -> None:
        """Anyone can invent IDs; they must not fill the memory."""
        for number in range(3, 500):
            self.table.heard_from(far(number), 1.0)
        assert sum(len(bucket.replacements) for bucket in self.table.buckets) <= 10


class Identity(SynchronousTestCase):
    """Section 2.2: who is who."""

    def test_a_known_id_from_another_address_is_verified_at_the_known_one(self) -> None:
        """Kademlia 2.2.3 ignores the change for ever; taking it on trust would let anyone hijack a contact."""
        known = table()
        known.heard_from(contact(7, port=1), 0.0)
        assert known.heard_from(contact(7, port=2), 1.0).probe == contact(7, port=1)
        assert known.closest(0, 1) == [contact(7, port=1)]

    def test_the_new_address_is_taken_once_the_old_one_does_not_answer(self) -> None:
        """A peer that moved is known again after one failed ping."""
        known = table()
        known.heard_from(contact(7, port=1), 0.0)
        known.failed(contact(7, port=1), 1.0)
        known.heard_from(contact(7, port=2), 2.0)
        assert known.closest(0, 1) == [contact(7, port=2)]

    def test_a_failure_of_an_old_address_does_not_count_against_the_new_one(self) -> None:
        """The outcome of a call belongs to whom it was made to."""
        known = table()
        known.heard_from(contact(7, port=2), 0.0)
        known.failed(contact(7, port=1), 1.0)
        assert known.closest(0, 1) == [contact(7, port=2)]

    def test_newcomers_restarted_and_returned_contacts_have_joined(self) -> None:
        """Section 2.5: these are to be given their pairs; one that just goes on talking is not."""
        known = table()
        assert known.heard_from(contact(7), 0.0, incarnation=1).joined
        assert not known.heard_from(contact(7), 1.0, incarnation=1).joined
        assert known.heard_from(contact(7), 2.0, incarnation=2).joined
        known.failed(contact(7), 3.0)
        assert known.heard_from(contact(7), 4.0, incarnation=2).joined

    def test_a_contact_that_was_away_for_long_and_not_restarted_makes_us_doubt_ourselves(self) -> None:
        """It may have been us who were cut off; a crash explains the absence otherwise."""
        known = table()
        for incarnation in (1, 2):
            known.heard_from(contact(7), 0.0, incarnation=1)
            for attempt in range(CUT_OFF_FAILURES):
                known.failed(contact(7), 10.0 * attempt)
            assert known.heard_from(contact(7), 99.0, incarnation).cut_off is (incarnation == 1)
        known.failed(contact(7), 200.0)
        assert not known.heard_from(contact(7), 201.0).cut_off

    def test_whoever_comes_and_goes_at_will_has_the_suspects_tried_again_once_a_second_only(self) -> None:
        """The table is read for it, and anybody can let an ID of his fall silent and speak again."""
        known = table()
        for number in (7, 8):
            known.heard_from(contact(number), 0.0)
        for moment in (10.0, 20.0, 30.0, 40.0):
            known.failed(contact(8), moment)

        def returns(moment: float) -> None:
            entry = known.get(contact(7).id)
            assert entry is not None
            entry.failures = CUT_OFF_FAILURES
            known._suspect(entry)
            assert known.heard_from(contact(7), moment).cut_off

        assert contact(8) not in known.retriable(41.0)
        returns(41.0)
        assert contact(8) in known.retriable(41.0)
        known.failed(contact(8), 41.1)
        returns(41.5)
        assert contact(8) not in known.retriable(41.5)
        returns(42.1)
        assert contact(8) in known.retriable(42.1)


class OwnCell(SynchronousTestCase):
    """Section 2.5: the pairs that this peer, and no other holder, hands to a peer that joins."""

    @settings(max_examples=150, deadline=None)
    @given(st.sets(st.integers(0, 255), max_size=20), st.integers(0, 255))
    def test_it_holds_exactly_the_keys_that_nobody_known_is_closer_to(self, numbers: set[int], own: int) -> None:
        """Checked key by key in a space of 256 keys, spread over the upper bits."""
        shift = ID_BITS - 8
        known = RoutingTable(to_bytes(own << shift), 20, 0.0)
        others = numbers - {own}
        for number in others:
            known.heard_from(contact(number << shift), 0.0)
        without = min(others, default=own)
        cell = known.own_cell(without=to_bytes(without << shift))
        for key in range(256):
            closer = any(number ^ key < own ^ key for number in others - {without})
            assert ((key << shift) in cell) is not closer
            assert closer or cell.lowest <= key << shift <= cell.highest

    @settings(max_examples=200, deadline=None)
    @given(st.sets(st.integers(0, 63), max_size=30), st.integers(0, 63), st.integers(1, 6))
    def test_whoever_may_hold_a_key_of_it_is_recognised(self, numbers: set[int], own: int, ksize: int) -> None:
        """Most contacts newly met share no key with us, and then there is nothing to look through."""
        shift = ID_BITS - 6
        known = RoutingTable(to_bytes(own << shift), ksize, 0.0, bits=1)
        for number in numbers - {own}:
            known.heard_from(contact(number << shift), 0.0)
        for other in [entry.contact for entry in known.entries()]:
            cell = known.own_cell(without=other.id)
            mine = [key << shift for key in range(64) if key << shift in cell]
            holds = [
                to_int(other.id) ^ key in sorted(entry.number ^ key for entry in known.entries())[:ksize]
                and sum(entry.number ^ key < to_int(other.id) ^ key for entry in known.entries())
                + (known.own_number ^ key < to_int(other.id) ^ key)
                < ksize
                for key in mine
            ]
            assert known.shares_keys(other) or not any(holds)

    def test_a_contact_among_strangers_to_our_keys_is_told_apart(self) -> None:
        """Once k contacts share more with us than it does, and every half farther away is inhabited."""
        known = table(ksize=2)
        for number in (1, 2, 3):
            known.heard_from(contact(number), 0.0)
        for number in range(4):
            known.heard_from(far(number), 0.0)
        assert known.shares_keys(contact(1))
        assert not all(known.shares_keys(entry.contact) for entry in known.entries())


class Refresh(SynchronousTestCase):
    """Section 2.3: which ranges need a lookup."""

    def test_a_bucket_is_due_when_nothing_in_its_range_was_looked_up(self) -> None:
        """A lookup counts for the bucket of its target only."""
        known = table(ksize=1)
        known.heard_from(contact(1), 0.0)
        known.heard_from(far(1), 0.0)
        known.looked_up(to_int(far(5).id), 50.0)
        due = known.not_looked_up_since(10.0)
        assert known.bucket_for(to_int(far(1).id)) not in due
        assert known.bucket_for(0) in due

    def test_a_join_refreshes_every_bucket_farther_than_the_closest_neighbour(self) -> None:
        """Kademlia 2.2.3 refreshes none."""
        known = table(ksize=1)
        for number in (1, 2**10, 2**100, 2**159):
            known.heard_from(contact(number), 0.0)
        ranges = {(bucket.lower, bucket.depth) for bucket in known.farther_than_closest()}
        assert (2**159, 1) in ranges
        for nearest, dead in ((2**10, None), (2**11, 1), (2**101, 2**10)):
            if dead is not None:
                known.failed(contact(dead), 0.0)
            farther = known.farther_than_closest()
            assert min(bucket.lower for bucket in farther) == nearest
            assert sum(bucket.span for bucket in farther) == 2**160 - nearest
        assert RoutingTable(OWN, 1, 0.0).farther_than_closest() == []
