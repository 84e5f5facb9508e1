"""Which record replaces which, and how long it lives (paper, section 2.3)."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kademlia.errors import QuotaExceeded
from kademlia.ids import digest
from kademlia.keeper import Keeper
from kademlia.records import Publication
from kademlia.storage import MemoryStorage

KEY = digest("one")
EXPIRE = 100.0


class Kept(SynchronousTestCase):
    """A keeper whose wall clock the test owns."""

    def setUp(self) -> None:
        self.now = 1000.0
        self.keeper = self.fresh()

    def fresh(self, max_keys: int = 10) -> Keeper:
        """Return an empty keeper on the test's clock."""
        return Keeper(MemoryStorage(max_keys=max_keys), EXPIRE, lambda: self.now)

    def value(self) -> object:
        """Return the value now served."""
        record = self.keeper.get(KEY)
        return None if record is None else record.value


class Versioned(Kept):
    """Pairs from peers that understand versions."""

    def test_a_newer_version_replaces_an_older_one_and_never_the_other_way(self) -> None:
        """An old holder's replication rolls a stock network back."""
        self.keeper.accept(KEY, "new", 2, EXPIRE)
        assert self.keeper.accept(KEY, "old", 1, EXPIRE).value == "new"
        assert self.value() == "new"

    @given(st.lists(st.tuples(st.integers(1, 5), st.sampled_from("abc")), min_size=1, max_size=4, unique=True))
    def test_the_order_of_arrival_does_not_decide(self, publications: list[tuple[int, str]]) -> None:
        """Concurrent writers: every holder ends with the same value, also where versions are equal."""
        ends = set()
        for order in permutations(publications):
            keeper = self.fresh()
            for version, value in order:
                keeper.accept(KEY, value, version, EXPIRE)
            record = keeper.get(KEY)
            assert record is not None
            ends.add((record.version, record.value))
        assert len(ends) == 1
        assert ends.pop()[0] == max(version for version, _ in publications)

    def test_replication_does_not_extend_the_life(self) -> None:
        """Section 2.3: a pair expires 24 h after it was last published, however often passed on."""
        self.keeper.accept(KEY, "v", 1, EXPIRE)
        self.now += 60
        self.keeper.accept(KEY, "v", 1, EXPIRE - 60)
        self.now += 41
        assert self.value() is None

    def test_republishing_extends_the_life(self) -> None:
        """The publisher gives it a whole life again."""
        self.keeper.accept(KEY, "v", 1, EXPIRE)
        self.now += 60
        self.keeper.accept(KEY, "v", 1, EXPIRE)
        self.now += 60
        assert self.value() == "v"

    def test_nobody_can_make_a_pair_live_longer_than_a_fresh_one(self) -> None:
        """The life left is a claim of the sender's."""
        self.keeper.accept(KEY, "v", 1, 1e300)
        self.now += EXPIRE + 1
        assert self.value() is None

    def test_an_expired_record_does_not_stand_in_the_way(self) -> None:
        """An older version is better than none once the newer one's life is over."""
        self.keeper.accept(KEY, "new", 5, EXPIRE)
        self.now += EXPIRE + 1
        self.keeper.accept(KEY, "old", 4, EXPIRE)
        assert self.value() == "old"

    def test_a_full_store_refuses_and_keeps_what_it_has(self) -> None:
        """Nothing is half done."""
        self.keeper = self.fresh(max_keys=1)
        self.keeper.accept(KEY, "v", 1, EXPIRE)
        self.assertRaises(QuotaExceeded, self.keeper.accept, digest("two"), "w", 1, EXPIRE)
        assert self.value() == "v"
        self.keeper.accept(KEY, "v2", 2, EXPIRE)
        assert self.value() == "v2"

    def test_a_newer_publication_by_another_ends_ours(self) -> None:
        """Else we would bring the old value back with our next republishing."""
        self.keeper.accept(KEY, "ours", 1, EXPIRE)
        self.keeper.storage.publish(Publication(KEY, "ours", 1, self.now))
        self.keeper.accept(KEY, "theirs", 2, EXPIRE)
        assert self.keeper.storage.published_before(self.now + 1, 10) == []

    def test_versions_grow_even_when_the_clock_was_set_back(self) -> None:
        """A later publication of ours must win over an earlier one."""
        first = self.keeper.next_version(KEY)
        self.keeper.accept(KEY, "first", first, EXPIRE)
        self.now -= 50
        assert self.keeper.next_version(KEY) > first

    def test_a_version_far_in_the_future_is_not_believed(self) -> None:
        """Nobody could write above it; a clock that is hours ahead is believed."""
        assert self.keeper.believes(int((self.now + 86400) * 1e6))
        assert not self.keeper.believes(int((self.now + 86401) * 1e6))

    def test_a_value_that_does_not_equal_itself_is_touched_too(self) -> None:
        """Else a NaN would be due for replication again at once, without an end."""
        for value in (float("nan"), 0.0):
            record = replace(self.keeper.accept(KEY, value, 1, EXPIRE), value=value * 1)
            self.now += 10
            self.keeper.touch(record)
            held = self.keeper.get(KEY)
            assert held is not None
            assert held.received_at == self.now
            self.keeper.storage.delete(KEY)

    def test_what_is_doubted_stays_so_whoever_stores_it(self) -> None:
        """That peer may have been away too; a newer value may not be the newest either."""
        self.keeper.accept(KEY, "v", 1, EXPIRE)
        self.now += 10
        self.keeper.doubted_before = self.now
        for value, version in (("v", 1), ("w", 2), ("v", 1)):
            assert self.keeper.doubts(self.keeper.accept(KEY, value, version, EXPIRE))
        assert self.keeper.doubts(self.keeper.accept_plain(KEY, "w"))
        due = self.keeper.storage.received_before(self.now, 10)
        assert [record.value for record in due] == ["w"]
        self.keeper.touch(due[0])
        assert not self.keeper.doubts(self.keeper.accept(KEY, "w", 2, EXPIRE))

    def test_doubted_records_are_found_behind_those_stored_since(self) -> None:
        """They keep the time at which they were received, and their place in that order."""
        keys = [digest(str(number)) for number in range(3)]
        for key in keys:
            self.keeper.accept(key, "v", 1, EXPIRE)
        self.now += 10
        self.keeper.doubted_before = self.now
        self.keeper.accept(KEY, "new", 1, EXPIRE)
        for key in reversed(keys):
            self.keeper.accept(key, "w", 2, EXPIRE)
        due = self.keeper.storage.received_before(self.now, 10)
        assert {record.key for record in due} == set(keys)

    def test_touching_keeps_the_life_that_a_store_gave_meanwhile(self) -> None:
        """A holder that replicates may receive the pair from its publisher before it is done."""
        record = self.keeper.accept(KEY, "v", 1, EXPIRE)
        self.now += 60
        self.keeper.accept(KEY, "v", 1, EXPIRE)
        self.keeper.touch(record)
        self.now += 60
        assert self.value() == "v"

    def test_touching_moves_when_it_was_received_unless_it_was_replaced_meanwhile(self) -> None:
        """A STORE that came during replication is not undone."""
        record = self.keeper.accept(KEY, "v", 1, EXPIRE)
        self.now += 10
        self.keeper.touch(record)
        held = self.keeper.get(KEY)
        assert held is not None
        assert held.received_at == self.now
        self.keeper.accept(KEY, "w", 2, EXPIRE)
        self.keeper.touch(held)
        assert self.value() == "w"


class Plain(Kept):
    """Pairs from stock peers, which know no versions."""

    def test_a_plain_pair_is_served_and_replaced_by_the_next(self) -> None:
        """As among stock peers: the last one to come wins."""
        self.keeper.accept_plain(KEY, "a")
        self.keeper.accept_plain(KEY, "b")
        assert self.value() == "b"

    def test_a_stock_holder_repeating_our_value_keeps_its_version_and_its_end(self) -> None:
        """That is replication by a peer that cannot say so."""
        before = self.keeper.accept(KEY, "v", 7, EXPIRE)
        self.now += 60
        after = self.keeper.accept_plain(KEY, "v")
        assert (after.version, after.expires_at, after.received_at) == (7, before.expires_at, self.now)

    def test_a_stock_holder_repeating_a_replaced_value_is_ignored(self) -> None:
        """Its old copy would otherwise roll a newer value back, as it does in a stock network."""
        self.keeper.accept(KEY, "old", 7, EXPIRE)
        self.keeper.accept(KEY, "new", 8, EXPIRE)
        assert self.keeper.accept_plain(KEY, "old").value == "new"
        assert self.value() == "new"

    def test_a_stock_holder_repeating_a_nan_keeps_its_version(self) -> None:
        """It equals nothing, and is the same value nevertheless."""
        self.keeper.accept(KEY, float("nan"), 7, EXPIRE)
        assert self.keeper.accept_plain(KEY, float("nan")).version == 7

    def test_equal_values_of_different_types_are_different(self) -> None:
        """1, 1.0 and True compare equal in Python, and are not the same value."""
        self.keeper.accept(KEY, 1, 7, EXPIRE)
        assert self.keeper.accept_plain(KEY, True).value is True

    def test_a_stock_peer_can_change_a_value_that_we_published(self) -> None:
        """Its new value is then the newest version."""
        self.keeper.accept(KEY, "ours", 7, EXPIRE)
        self.keeper.accept_plain(KEY, "theirs")
        assert self.keeper.accept(KEY, "ours", 7, EXPIRE).value == "theirs"
