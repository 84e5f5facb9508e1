"""The node lookup (paper, section 2.3), every answer owned by the test."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kademlia.contact import Contact
from kademlia.ids import to_bytes, to_int
from kademlia.lookup import MAX_PASSED, Lookup, State

OWN = to_bytes(2**159)


def contact(number: int) -> Contact:
    """Return a contact with that ID, so at that distance from the target 0."""
    return Contact(to_bytes(number), "10.0.0.1", 1)


def contacts(*numbers: int) -> list[Contact]:
    """Return several contacts."""
    return [contact(number) for number in numbers]


def lookup(seeds: list[Contact], ksize: int = 20, alpha: int = 3) -> Lookup:
    """Return a lookup of the target 0."""
    return Lookup(0, ksize, alpha, OWN, seeds)


class InFlight(SynchronousTestCase):
    """Whom to ask, and when."""

    def test_the_alpha_closest_are_asked_first(self) -> None:
        """And no more than α at a time."""
        search = lookup(contacts(50, 10, 40, 30, 20))
        assert search.to_ask() == contacts(10, 20, 30)
        assert search.to_ask() == []

    def test_each_answer_makes_room_for_one_more(self) -> None:
        """The lookup does not wait for a round to be complete, as kademlia 2.2.3 does."""
        search = lookup(contacts(10, 20, 30, 40))
        search.to_ask()
        search.answered(contact(20), contacts(5))
        assert search.to_ask() == contacts(5)

    def test_a_slow_peer_does_not_hold_up_the_others(self) -> None:
        """One dead peer costs kademlia 2.2.3 five seconds a round."""
        search = lookup(contacts(10, 20, 30, 40, 50))
        search.to_ask()
        search.slow(contact(10))
        search.failed(contact(20))
        assert search.to_ask() == contacts(40, 50)

    def test_a_late_answer_of_a_slow_peer_still_counts(self) -> None:
        """And does not free a second place."""
        search = lookup(contacts(10, 20, 30, 40, 50, 60), alpha=2)
        search.to_ask()
        search.slow(contact(10))
        assert search.to_ask() == contacts(30)
        search.answered(contact(10), contacts(1))
        assert search.to_ask() == []
        assert search.closest() == contacts(10)

    def test_without_progress_all_of_the_k_closest_are_asked_at_once(self) -> None:
        """Section 2.3: a round that brings nothing closer."""
        search = lookup(contacts(*range(10, 20)), ksize=8, alpha=2)
        for _ in range(2):
            (first, *_) = [c for c in search.to_ask() if c]
            search.answered(first)
        assert search.to_ask() == contacts(13, 14, 15, 16, 17)

    def test_only_the_k_closest_are_asked(self) -> None:
        """Farther ones only take the place of closer ones that failed."""
        search = lookup(contacts(1, 2, 3, 4), ksize=2)
        assert search.to_ask() == contacts(1, 2)
        search.failed(contact(1))
        assert search.to_ask() == contacts(3)

    def test_peers_known_to_be_gone_are_not_asked(self) -> None:
        """Others go on naming the dead for a while."""
        search = lookup(contacts(10))
        search.to_ask()
        search.answered(contact(10), contacts(1, 2))
        search.avoid(contact(1))
        assert search.to_ask() == contacts(2)

    def test_the_own_id_is_never_asked(self) -> None:
        """Everybody names us; we know what we know."""
        search = lookup(contacts(to_int(OWN)))
        assert search.to_ask() == []

    def test_a_slow_peer_among_the_k_closest_is_replaced_before_it_fails(self) -> None:
        """Or each dead peer in a row would cost its own time-out."""
        search = lookup(contacts(1, 2, 3), ksize=2)
        search.to_ask()
        search.slow(contact(1))
        assert search.to_ask() == contacts(3)

    def test_each_slow_peer_is_made_up_for_twice(self) -> None:
        """Among the dead, who takes a dead one's place may be dead too, and would cost a time-out of its own."""
        search = lookup(contacts(*range(1, 12)), ksize=4, alpha=4)
        search.to_ask()
        search.slow(contact(1))
        search.slow(contact(2))
        assert search.to_ask() == contacts(5, 6)
        search.answered(contact(3))
        search.answered(contact(4))
        assert search.to_ask() == contacts(7, 8)

    def test_it_tells_how_many_are_lacking(self) -> None:
        """When all peers name the same k and some of those are dead, others have to be found."""
        search = lookup(contacts(1, 2, 3), ksize=3)
        search.to_ask()
        search.slow(contact(1))
        search.failed(contact(2))
        assert search.lacking == 2
        search.learn(contacts(4, 5, 3))
        assert search.lacking == 0
        assert search.to_ask() == contacts(4, 5)


class End(SynchronousTestCase):
    """When a lookup is over."""

    def test_it_ends_when_the_k_closest_have_answered(self) -> None:
        """Not before, and not when only the closest has."""
        search = lookup(contacts(1, 2, 3), ksize=2)
        search.to_ask()
        search.answered(contact(1))
        assert not search.done
        search.answered(contact(2))
        assert search.done
        assert search.closest() == contacts(1, 2)

    def test_a_slow_peer_is_out_of_consideration_until_it_answers(self) -> None:
        """Section 2.3; but only when it has failed is it certain that it changes nothing."""
        search = lookup(contacts(1, 2, 3), ksize=2)
        search.to_ask()
        search.slow(contact(1))
        search.answered(contact(2))
        search.answered(contact(3))
        assert search.converged
        assert not search.done
        assert search.closest() == contacts(2, 3)
        assert search.unreached(State.SLOW) == contacts(1)
        search.answered(contact(1))
        assert search.done
        assert search.closest() == contacts(1, 2)

    def test_with_fewer_than_k_answers_even_the_slow_are_waited_for(self) -> None:
        """Where few are known, a busy machine must not make a value be stored at hardly anybody."""
        search = lookup(contacts(1, 2), ksize=2)
        search.to_ask()
        search.slow(contact(1))
        search.answered(contact(2))
        assert not search.converged
        search.failed(contact(1))
        assert search.converged

    def test_a_lookup_without_seeds_is_over_at_once(self) -> None:
        """There is nobody to ask."""
        assert lookup([]).done

    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, 10**9), st.integers(2, 60), st.integers(1, 8), st.integers(1, 5))
    def test_it_finds_the_k_closest_live_peers_whatever_the_order_of_answers(
        self, seed: int, size: int, ksize: int, alpha: int
    ) -> None:
        """Everyone knows the k closest live peers; some are dead, some slow; answers come shuffled."""
        rng = random.Random(seed)
        peers = sorted(rng.sample(range(1, 10_000), size))
        dead = {peer for peer in peers if rng.random() < 0.3}
        live = [peer for peer in peers if peer not in dead]
        seeds = rng.sample(peers, min(size, ksize))
        search = lookup(contacts(*seeds), ksize, alpha)
        waiting: list[Contact] = []
        while not search.done:
            waiting += search.to_ask()
            assert waiting, "neither done nor waiting for anybody"
            chosen = waiting.pop(rng.randrange(len(waiting)))
            if rng.random() < 0.2:
                search.slow(chosen)
                waiting.append(chosen)
            elif to_int(chosen.id) in dead:
                search.failed(chosen)
            else:
                search.answered(chosen, contacts(*rng.sample(peers, min(size, 3)), *live[:ksize]))
        if set(seeds) - dead:
            assert search.closest() == contacts(*live[:ksize])
        else:
            assert search.closest() == []


class Caching(SynchronousTestCase):
    """Section 2.3: where a found value is cached, and how many are closer."""

    def test_the_closest_that_answered_without_the_value_is_named(self) -> None:
        """Failed candidates and the holder itself are passed over; the others in between count."""
        search = lookup(contacts(1, 2, 3, 4), alpha=4)
        search.to_ask()
        search.failed(contact(1))
        search.answered(contact(3))
        search.answered(contact(4))
        assert search.closest_without({contact(4).id}) == (contact(3), 1)

    def test_there_is_none_when_the_first_asked_had_it(self) -> None:
        """Nobody answered without the value."""
        search = lookup(contacts(1))
        search.to_ask()
        search.answered(contact(1))
        assert search.closest_without({contact(1).id}) is None

    def test_hops_count_requests_in_a_row(self) -> None:
        """A contact of the own table is one request away, one that it named two."""
        search = lookup(contacts(10))
        search.to_ask()
        search.answered(contact(10), contacts(1))
        search.to_ask()
        assert (search.hops_to(contact(10)), search.hops_to(contact(1)), search.hops) == (1, 2, 2)


class PassingOver(SynchronousTestCase):
    """Looking for the k closest of those that can do something, among others that cannot."""

    def test_contacts_that_do_not_count_are_replaced_by_the_next_closest(self) -> None:
        """What they know counts."""
        search = lookup(contacts(1), ksize=2, alpha=1)
        while chosen := search.to_ask():
            (asked,) = chosen
            number = to_int(asked.id)
            known = [contact(number + 1)] if number < 9 else []
            if number % 3:
                search.pass_over(asked, known)
            else:
                search.answered(asked, known)
        assert search.done
        assert search.closest() == contacts(3, 6)
        assert search.passed == contacts(1, 2, 4, 5)

    def test_a_lookup_among_many_that_do_not_count_takes_what_it_has(self) -> None:
        """It must not ask a whole network of stock peers."""
        search = lookup(contacts(*range(1, 100)), ksize=2)
        asked = 0
        while chosen := search.to_ask():
            for one in chosen:
                asked += 1
                search.pass_over(one, [])
        assert search.done
        assert search.closest() == []
        assert MAX_PASSED * 2 <= asked < MAX_PASSED * 2 + 3
