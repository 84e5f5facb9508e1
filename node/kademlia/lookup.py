"""The node lookup as a value (paper, section 2.3): it is told answers and says whom to ask next.

No I/O and no time: the same object runs in a peer, in a test that owns every answer, and in a simulation.

- Up to α requests are in flight to the closest contacts not yet asked.
- A peer whose answer is overdue no longer counts, neither among the α nor among the k to be asked: another is
  asked in its place, while a late answer is still welcome.  Its replacement has answered by the time it fails.
- When α answers in a row brought nothing closer, all of the k closest not yet asked are asked at once.
- The lookup ends when the k closest that have not failed have all answered.
"""

from __future__ import annotations

from bisect import bisect
from enum import Enum, auto
from typing import TYPE_CHECKING

from kademlia.ids import to_int

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from kademlia.contact import Contact


#: candidates passed over, as a multiple of k, after which a lookup that passes over some takes what it has
MAX_PASSED = 4


class State(Enum):
    """What a lookup knows of a candidate."""

    HEARD = auto()
    WAITING = auto()
    SLOW = auto()
    ANSWERED = auto()
    FAILED = auto()
    #: answered, but cannot be one of those that are looked for
    PASSED = auto()


class Candidate:
    """A contact on the way to the target."""

    __slots__ = ("contact", "distance", "hops", "state")

    def __init__(self, contact: Contact, distance: int, hops: int) -> None:
        self.contact = contact
        self.distance = distance
        #: requests between us and the first hearing of it: 0 from the own table
        self.hops = hops
        self.state = State.HEARD


class Lookup:
    """One search for the k contacts closest to a target."""

    def __init__(self, target: int, ksize: int, alpha: int, own_id: bytes, seeds: Iterable[Contact]) -> None:
        self.target = target
        self.ksize = ksize
        self.alpha = alpha
        self.own_id = own_id
        #: every candidate, closest first
        self.candidates: list[Candidate] = []
        self._distances: list[int] = []
        self._by_id: dict[bytes, Candidate] = {}
        self._in_flight = 0
        self._fruitless = 0
        self._passed = 0
        self.requests = 0
        #: longest chain of requests so far
        self.hops = 0
        self._learn(seeds, hops=0)

    def __contains__(self, node_id: bytes) -> bool:
        return node_id in self._by_id

    def _learn(self, contacts: Iterable[Contact], hops: int) -> None:
        for contact in contacts:
            if contact.id != self.own_id and contact.id not in self._by_id:
                candidate = Candidate(contact, to_int(contact.id) ^ self.target, hops)
                self._by_id[contact.id] = candidate
                place = bisect(self._distances, candidate.distance)
                self._distances.insert(place, candidate.distance)
                self.candidates.insert(place, candidate)

    def to_ask(self) -> list[Contact]:
        """Return the contacts to ask now; they count as asked from here on."""
        if self._exhausted:
            return []
        room = self.ksize if self._fruitless >= self.alpha else self.alpha - self._in_flight
        chosen: list[Contact] = []
        passed = 0
        for candidate in self.candidates:
            if len(chosen) >= room or passed == self.ksize:
                break
            state = candidate.state
            if state is State.FAILED or state is State.SLOW or state is State.PASSED:
                continue
            passed += 1
            if state is State.HEARD:
                candidate.state = State.WAITING
                self.hops = max(self.hops, candidate.hops + 1)
                chosen.append(candidate.contact)
        self._in_flight += len(chosen)
        self.requests += len(chosen)
        return chosen

    def _leave(self, contact: Contact, state: State) -> Candidate:
        candidate = self._by_id[contact.id]
        if candidate.state is State.WAITING:
            self._in_flight -= 1
        candidate.state = state
        return candidate

    @property
    def _exhausted(self) -> bool:
        return self._passed >= MAX_PASSED * self.ksize

    def pass_over(self, contact: Contact, contacts: Iterable[Contact]) -> None:
        """Take in the answer of a contact that does not count as one of the k: the next takes its place."""
        self.answered(contact, contacts)
        self._leave(contact, State.PASSED)
        self._passed += 1

    def answered(self, contact: Contact, contacts: Iterable[Contact] = ()) -> None:
        """Take in the answer of a contact: the contacts that it knows closest to the target."""
        candidate = self._leave(contact, State.ANSWERED)
        closest = self.candidates[0].distance
        self._learn(contacts, candidate.hops + 1)
        self._fruitless = 0 if self.candidates[0].distance < closest else self._fruitless + 1

    def slow(self, contact: Contact) -> None:
        """Take note that an answer is overdue: another contact may be asked in its place."""
        if self._by_id[contact.id].state is State.WAITING:
            self._leave(contact, State.SLOW)

    def failed(self, contact: Contact) -> None:
        """Take note that a contact will not answer."""
        self._leave(contact, State.FAILED)

    def avoid(self, contact: Contact) -> None:
        """Do not ask a contact that the caller knows to be gone."""
        candidate = self._by_id.get(contact.id)
        if candidate is not None and candidate.state is State.HEARD:
            candidate.state = State.FAILED

    @property
    def done(self) -> bool:
        """Tell whether the k closest that have not failed have all answered."""
        if self._exhausted and not self._in_flight:
            return True
        answered = 0
        for candidate in self.candidates:
            if candidate.state is State.ANSWERED:
                answered += 1
                if answered == self.ksize:
                    return True
            elif candidate.state is not State.FAILED and candidate.state is not State.PASSED:
                return False
        return True

    def closest(self) -> list[Contact]:
        """Return the k closest contacts that answered, closest first."""
        return [c.contact for c in self.candidates if c.state is State.ANSWERED][: self.ksize]

    @property
    def passed(self) -> list[Contact]:
        """Return the contacts passed over, closest first."""
        return [c.contact for c in self.candidates if c.state is State.PASSED]

    def unreached(self) -> list[Contact]:
        """Return the contacts that did not answer and are closer than the farthest of `closest`."""
        closest = self.closest()
        if not closest:
            return []
        farthest = to_int(closest[-1].id) ^ self.target
        return [c.contact for c in self.candidates if c.state is State.FAILED and c.distance < farthest]

    def hops_to(self, contact: Contact) -> int:
        """Return how many requests it took to reach a contact's answer: 1 for one of the own table."""
        return self._by_id[contact.id].hops + 1

    def closest_without(self, holders: Container[bytes]) -> tuple[Contact, int] | None:
        """Return the closest contact that answered and is no holder, and how many candidates are closer.

        `holders` are node IDs.

        That is where section 2.3 has a found value cached, for a life that falls with that number.
        """
        rank = 0
        for candidate in self.candidates:
            if candidate.state is State.FAILED:
                continue
            if candidate.state is State.ANSWERED and candidate.contact.id not in holders:
                return candidate.contact, rank
            rank += 1
        return None
