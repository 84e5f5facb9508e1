"""Lookups over the network: a `Lookup` driven by real questions and answers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from twisted.internet.defer import Deferred

from kademlia.contact import Contact, parse_contact
from kademlia.ids import to_int
from kademlia.lookup import Lookup
from kademlia.parts import Parts, parse_parts
from kademlia.protocol import DOUBTFUL, life_in, version_in
from kademlia.records import Value, is_value, order_of
from kademlia.transfers import PARTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Set

    from kademlia.protocol import KademliaProtocol
    from kademlia.rpc import Answer

#: requests of one lookup, as a multiple of k, after which no more contacts are made up for those that are silent:
#: enough where four in five have died, and an end where the own table is full of inventions
MAX_REQUESTS = 6
#: contacts taken from one answer: the paper's k, however small our own
MAX_CONTACTS = 20


class Found(NamedTuple):
    """A value that a lookup met, and who answered it."""

    #: of a large value, its name
    value: Value | Parts
    #: None from a plain peer
    version: int | None
    #: seconds
    life: float
    holder: Contact
    #: the holder was away since it last had it confirmed, and there may be a newer one
    doubtful: bool

    @property
    def order(self) -> tuple[int, bytes]:
        """Sort key of what holders answer: as `Record.order`."""
        version = self.version or 0
        return (version, self.value.sha256) if isinstance(self.value, Parts) else order_of(version, self.value)


class Step(NamedTuple):
    """One event of a lookup, for those who want to watch it."""

    #: seconds since the lookup began
    at: float
    #: "asked", "slow", "answered", "value" or "failed"; of a large value then "fetched" or "broken"
    event: str
    contact: Contact
    #: XOR of the contact's ID and the target
    distance: int
    #: requests in a row to this contact, itself included
    hop: int
    #: contacts that the answer named and that the lookup had not met
    contacts: int


class Crawl:
    """One lookup under way.

    `method` is "find_node", or "find_value", which ends at the first value.  With a `size`, the k closest that
    take an encoded value of so many bytes are looked for: stock peers are passed over.  `run` may be called once.
    """

    def __init__(
        self,
        protocol: KademliaProtocol,
        target: bytes,
        ksize: int,
        alpha: int,
        method: str,
        size: int = 0,
        more: Iterable[Contact] = (),
    ) -> None:
        number = to_int(target)
        table, now = protocol.table, protocol.clock.seconds()
        seeds = protocol.closest(number, size) or table.suspects(number)[:ksize]
        table.looked_up(number, now)
        self.lookup = Lookup(number, ksize, alpha, protocol.own_id, [*more, *seeds])
        #: every value met, in the order of arrival
        self.found: list[Found] = []
        #: told of every step, if anybody wants to know
        self.on_step: Callable[[Step], None] | None = None
        self._protocol = protocol
        self._method = method
        self._size = size
        self._question = protocol.question(method, target, size)
        # Nobody is told that there is no value while a holder may only be slow.
        self._patient = method == "find_value"
        #: node IDs that are not asked
        self.avoided: Set[bytes] = frozenset()
        #: whether all of the k closest are asked, even where one has a value that it does not doubt
        self.thorough = False
        self._started = now
        self._done: Deferred[Found | None] = Deferred()
        self._finished = False
        self._advancing = False
        self._answers = 0

    def run(self) -> Deferred[Found | None]:
        """Fire with the value found, or with None when the lookup converged without one.

        The first value ends it at once (section 2.3).  Only where its holder doubts it, the others among the k
        closest are asked too, and the newest wins.
        """
        for candidate in list(self.lookup.candidates) if self.avoided else ():
            if candidate.contact.id in self.avoided:
                self.lookup.avoid(candidate.contact)
        self._advance()
        return self._done

    def _advance(self) -> None:
        # An answer may come while questions are being sent (there is no transport any more): no recursion then.
        self._answers += 1
        if self._advancing:
            return
        self._advancing = True
        taken_in = -1
        while taken_in != self._answers and not self._finished:
            taken_in = self._answers
            for contact in self.lookup.to_ask():
                self._step("asked", contact)
                answered, slow = partial(self._answered, contact), partial(self._slow, contact)
                self._protocol.send(contact, self._method, self._question, answered, slow)
        self._advancing = False
        if not self._finished and (self.lookup.done if self._patient else self.lookup.converged):
            self._finish()

    def _slow(self, contact: Contact) -> None:
        if self._finished:
            return
        self.lookup.slow(contact)
        self._step("slow", contact)
        self._make_up()
        self._advance()

    def _make_up(self) -> None:
        """Fall back on the own table where fewer than k may still answer: all name the same k, dead or not."""
        if self.lookup.lacking and self.lookup.requests < MAX_REQUESTS * self.lookup.ksize:
            enough = self.lookup.ksize + len(self.lookup.candidates)
            contacts = self._protocol.table.closest(self.lookup.target, enough)
            if self._size:
                contacts = self._protocol.transfers.speakers.without_refusers(contacts, self._size)
            met, avoided = self.lookup.met, self.avoided
            new = [contact for contact in contacts if contact.id not in met and contact.id not in avoided]
            self.lookup.learn(new[: 2 * self.lookup.lacking])

    def _answered(self, contact: Contact, answer: Answer) -> None:
        if self._finished:
            return
        value = answer.value
        if answer.happened and isinstance(value, list):
            if (self._size or self._patient) and PARTS not in answer.extension:
                self._protocol.transfers.speakers.learned(contact, 0)  # ours state here what they take
            self._learned(contact, value)
        elif (found := self._value_in(answer, contact)) is not None:
            self.lookup.answered(contact)
            self.found.append(found)
            self._step("value", contact)
            if not (found.doubtful or self.thorough):
                self._finish()
        else:
            self.lookup.failed(contact)
            self._step("failed", contact)
            self._make_up()
        self._advance()

    def _learned(self, contact: Contact, rows: list[object]) -> None:
        limit = max(self.lookup.ksize, MAX_CONTACTS)
        contacts = [new for row in self._unmet(rows[:limit]) if (new := parse_contact(row)) is not None]
        if self._size and not self._protocol.transfers.speakers.takes(contact, self._size):
            self.lookup.pass_over(contact, contacts)
        else:
            self.lookup.answered(contact, contacts)
        self._step("answered", contact, len(contacts))
        if not contacts:
            return
        now = self._protocol.clock.seconds()
        for learned in contacts:
            if self._protocol.table.backed_off(learned, now) or learned.id in self.avoided:
                self.lookup.avoid(learned)
        self._make_up()

    def _value_in(self, answer: Answer, contact: Contact) -> Found | None:
        return value_in(answer, contact, self._protocol.keeper.expire) if self._method == "find_value" else None

    def _step(self, event: str, contact: Contact, contacts: int = 0) -> None:
        if self.on_step is not None:
            at = self._protocol.clock.seconds() - self._started
            distance = to_int(contact.id) ^ self.lookup.target
            self.on_step(Step(at, event, contact, distance, self.lookup.hops_to(contact), contacts))

    def _unmet(self, rows: list[Any]) -> list[Any]:
        """Return the rows that may be contacts which the lookup has not met: few of them are worth the parsing."""
        met = self.lookup.met
        try:
            return [row for row in rows if row[0] not in met]
        except (TypeError, LookupError):  # somebody sends no contacts at all
            return rows

    def _finish(self) -> None:
        self._finished = True
        found = max(self.found, key=lambda found: found.order, default=None)
        stats = self._protocol.stats
        kind = self._method.removeprefix("find_")
        if found is not None:
            outcome = "found"
        elif not self.lookup.closest():
            outcome = "empty"
        else:
            outcome = "missing" if kind == "value" else "converged"
        stats.lookups[kind, outcome] += 1
        hops = self.lookup.hops_to(found.holder) if found else self.lookup.hops
        seconds = self._protocol.clock.seconds() - self._started
        stats.lookup[kind].observe(seconds, hops, self.lookup.requests)
        self._done.callback(found)


def value_in(answer: Answer, contact: Contact, expire: float) -> Found | None:
    """Return the value that an answer to `find_value` carries, if it does; `expire` is a plain pair's life."""
    if not (answer.happened and isinstance(answer.value, dict)):
        return None
    value, extension = answer.value.get("value"), answer.extension
    version = version_in(extension)
    if not is_value(value):
        parts = answer.value.get("parts")
        value = parse_parts(*parts) if isinstance(parts, list) and len(parts) == 2 and version else None
        if value is None:
            return None
    return Found(value, version, life_in(extension, expire), contact, DOUBTFUL in extension)
