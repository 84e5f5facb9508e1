"""The node lookup as a value (paper, section 2.3): it is told answers and says whom to ask next.

No I/O and no time: the same object runs in a peer, in a test that owns every answer, and in a simulation.

- Up to α requests are in flight to the closest contacts not yet asked.
- A peer whose answer is overdue no longer counts, neither among the α nor among the k to be asked: another is
  asked in its place, while a late answer is still welcome ("nodes that fail to respond quickly are removed from
  consideration until and unless they do respond").
- When α answers in a row brought nothing closer, all of the k closest not yet asked are asked at once.
- The lookup has converged when the k closest in consideration have all answered.  It is done when no late answer
  could change that: whoever looks for a value waits for that before saying that there is none.
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


# Members of an enumeration are looked up slowly, and every answer passes k candidates.
HEARD, WAITING, SLOW, ANSWERED, FAILED, PASSED = State


class Candidate:
    """A contact on the way to the target."""

    __slots__ = ("contact", "distance", "hops", "state")

    def __init__(self, contact: Contact, distance: int, hops: int) -> None:
        self.contact = contact
        self.distance = distance
        #: requests between us and the first hearing of it: 0 from the own table
        self.hops = hops
        self.state = HEARD


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
        #: the same by node ID
        self.met: dict[bytes, Candidate] = {}
        self._in_flight = 0
        self._fruitless = 0
        # How many candidates are heard of or waited for, how many are slow, have answered, and were passed over.
        self._open = self._slow = self._answered = self._passed = 0
        # Whether `to_ask` would find anybody but those it has found already.
        self._changed = True
        self.requests = 0
        #: longest chain of requests so far
        self.hops = 0
        self.learn(seeds)

    def learn(self, contacts: Iterable[Contact], hops: int = 0) -> None:
        """Take in contacts; `hops` counts the requests that led to their names, 0 for those of the own table."""
        for contact in contacts:
            if contact.id != self.own_id and contact.id not in self.met:
                candidate = Candidate(contact, to_int(contact.id) ^ self.target, hops)
                self.met[contact.id] = candidate
                place = bisect(self._distances, candidate.distance)
                self._distances.insert(place, candidate.distance)
                self.candidates.insert(place, candidate)
                self._open += 1
                self._changed = True

    def to_ask(self) -> list[Contact]:
        """Return the contacts to ask now; they count as asked from here on."""
        if self._exhausted:
            return []
        room = self.ksize if self._fruitless >= self.alpha else self.alpha - self._in_flight
        chosen: list[Contact] = []
        if room <= 0 or not self._changed:
            return chosen
        # Where some are slow, those who take their places may be dead too: each slow one is made up for twice.
        window = self.ksize + self._slow
        passed = 0
        for candidate in self.candidates:
            state = candidate.state
            if state is FAILED or state is SLOW or state is PASSED:
                continue
            passed += 1
            if state is HEARD:
                candidate.state = WAITING
                self.hops = max(self.hops, candidate.hops + 1)
                chosen.append(candidate.contact)
                if len(chosen) == room:
                    break
            if passed == window:
                self._changed = False
                break
        else:
            self._changed = False
        self._in_flight += len(chosen)
        self.requests += len(chosen)
        return chosen

    def _leave(self, candidate: Candidate, state: State) -> None:
        if candidate.state is SLOW:
            self._slow -= 1
        else:
            self._open -= 1
            self._in_flight -= candidate.state is WAITING
        candidate.state = state

    @property
    def _exhausted(self) -> bool:
        return self._passed >= MAX_PASSED * self.ksize

    def pass_over(self, contact: Contact, contacts: Iterable[Contact]) -> None:
        """Take in the answer of a contact that does not count as one of the k: the next takes its place."""
        self.answered(contact, contacts)
        self.met[contact.id].state = PASSED
        self._answered -= 1
        self._passed += 1
        self._changed = True

    def answered(self, contact: Contact, contacts: Iterable[Contact] = ()) -> None:
        """Take in the answer of a contact: the contacts that it knows closest to the target."""
        candidate = self.met[contact.id]
        self._leave(candidate, ANSWERED)
        self._answered += 1
        closest = self.candidates[0].distance
        self.learn(contacts, candidate.hops + 1)
        self._fruitless = 0 if self.candidates[0].distance < closest else self._fruitless + 1

    def slow(self, contact: Contact) -> None:
        """Take note that an answer is overdue: another contact may be asked in its place."""
        candidate = self.met[contact.id]
        if candidate.state is WAITING:
            self._leave(candidate, SLOW)
            self._slow += 1
            self._changed = True

    def failed(self, contact: Contact) -> None:
        """Take note that a contact will not answer."""
        self._leave(self.met[contact.id], FAILED)
        self._changed = True

    def avoid(self, contact: Contact) -> None:
        """Do not ask a contact that the caller knows to be gone."""
        candidate = self.met.get(contact.id)
        if candidate is not None and candidate.state is HEARD:
            self._leave(candidate, FAILED)

    @property
    def lacking(self) -> int:
        """How many more contacts are needed for there to be k that may answer."""
        return 0 if self._exhausted else max(0, self.ksize - self._open - self._answered)

    @property
    def converged(self) -> bool:
        """Tell whether the k closest that are neither slow nor failed have all answered.

        Fewer than k are enough only when nobody else can answer any more.
        """
        if self._exhausted and not self._in_flight:
            return True
        if self._answered < self.ksize:
            return not (self._open or self._slow)
        return self._closest_answered(SLOW)

    @property
    def done(self) -> bool:
        """Tell whether the k closest that have not failed have all answered."""
        if self._exhausted and not self._in_flight:
            return True
        if self._answered < self.ksize:
            return not (self._open or self._slow)
        return self._closest_answered(FAILED)

    def _closest_answered(self, passed_over: State) -> bool:
        """Tell whether the k closest have answered, apart from those that cannot count and those of one state."""
        answered = 0
        for candidate in self.candidates:
            state = candidate.state
            if state is ANSWERED:
                answered += 1
                if answered == self.ksize:
                    break
            elif state not in (FAILED, PASSED, passed_over):
                return False
        return True

    def closest(self) -> list[Contact]:
        """Return the k closest contacts that answered, closest first."""
        return [c.contact for c in self.candidates if c.state is ANSWERED][: self.ksize]

    @property
    def passed(self) -> list[Contact]:
        """Return the contacts passed over, closest first."""
        return [c.contact for c in self.candidates if c.state is PASSED]

    def unreached(self, state: State = FAILED) -> list[Contact]:
        """Return those who failed, or are slow, and are closer than the farthest of `closest`."""
        closest = self.closest()
        if not closest:
            return []
        farthest = to_int(closest[-1].id) ^ self.target
        return [c.contact for c in self.candidates if c.state is state and c.distance < farthest]

    def hops_to(self, contact: Contact) -> int:
        """Return how many requests it took to reach a contact's answer: 1 for one of the own table."""
        return self.met[contact.id].hops + 1

    def closest_without(self, holders: Container[bytes]) -> tuple[Contact, int] | None:
        """Return the closest contact that answered and is no holder, and how many candidates are closer.

        `holders` are node IDs.

        That is where section 2.3 has a found value cached, for a life that falls with that number.
        """
        rank = 0
        for candidate in self.candidates:
            if candidate.state is FAILED:
                continue
            if candidate.state is ANSWERED and candidate.contact.id not in holders:
                return candidate.contact, rank
            rank += 1
        return None
