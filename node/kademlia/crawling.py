"""Lookups over the network: a `Lookup` driven by real questions and answers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from twisted.internet.defer import Deferred

from kademlia.contact import Contact, parse_contact
from kademlia.ids import to_int
from kademlia.lookup import Lookup
from kademlia.protocol import DOUBTFUL, life_in, version_in
from kademlia.records import Value, is_value, order_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from kademlia.protocol import KademliaProtocol
    from kademlia.rpc import Answer

#: contacts taken from one answer: the paper's k, however small our own
MAX_CONTACTS = 20


class Found(NamedTuple):
    """A value that a lookup met, and who answered it."""

    value: Value
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
        return order_of(self.version or 0, self.value)


class Step(NamedTuple):
    """One event of a lookup, for those who want to watch it."""

    #: seconds since the lookup began
    at: float
    #: "asked", "slow", "answered", "value" or "failed"
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

    `method` is "find_node", or "find_value", which ends at the first value.  `run` may be called once.
    """

    def __init__(self, protocol: KademliaProtocol, target: bytes, ksize: int, alpha: int, method: str) -> None:
        number = to_int(target)
        table, now = protocol.table, protocol.clock.seconds()
        seeds = table.closest(number, ksize) or table.suspects(number)[:ksize]
        table.looked_up(number, now)
        self.lookup = Lookup(number, ksize, alpha, protocol.own_id, seeds)
        #: every value met, in the order of arrival
        self.found: list[Found] = []
        #: told of every step, if anybody wants to know
        self.on_step: Callable[[Step], None] | None = None
        self._protocol = protocol
        self._target = target
        self._method = method
        self._started = now
        self._done: Deferred[Found | None] = Deferred()
        self._finished = False
        self._advancing = False

    def run(self) -> Deferred[Found | None]:
        """Fire with the value found, or with None when the lookup converged without one.

        The first value ends it at once (section 2.3).  Only where its holder doubts it, the others among the k
        closest are asked too, and the newest wins.
        """
        self._advance()
        return self._done

    def _advance(self) -> None:
        # An answer may come while questions are being sent (there is no transport any more): no recursion then.
        if self._advancing:
            return
        self._advancing = True
        while not self._finished and (contacts := self.lookup.to_ask()):
            for contact in contacts:
                self._step("asked", contact)
                asked = self._protocol.ask(contact, self._method, self._target, partial(self._slow, contact))
                asked.addCallback(self._answered, contact)
        self._advancing = False
        if not self._finished and self.lookup.done:
            self._finish()

    def _slow(self, contact: Contact) -> None:
        self.lookup.slow(contact)
        self._step("slow", contact)
        self._advance()

    def _answered(self, answer: Answer, contact: Contact) -> None:
        if self._finished:
            return
        value = answer.value
        if answer.happened and isinstance(value, list):
            self._learned(contact, value)
        elif (found := self._value_in(answer, contact)) is not None:
            self.lookup.answered(contact)
            self.found.append(found)
            self._step("value", contact)
            if not found.doubtful:
                self._finish()
        else:
            self.lookup.failed(contact)
            self._step("failed", contact)
        self._advance()

    def _learned(self, contact: Contact, rows: list[object]) -> None:
        limit = max(self.lookup.ksize, MAX_CONTACTS)
        contacts = [new for row in self._unmet(rows[:limit]) if (new := parse_contact(row)) is not None]
        self.lookup.answered(contact, contacts)
        self._step("answered", contact, len(contacts))
        now = self._protocol.clock.seconds()
        for learned in contacts:
            if self._protocol.table.backed_off(learned, now):
                self.lookup.avoid(learned)

    def _value_in(self, answer: Answer, contact: Contact) -> Found | None:
        return value_in(answer, contact, self._protocol.keeper.expire) if self._method == "find_value" else None

    def _step(self, event: str, contact: Contact, contacts: int = 0) -> None:
        if self.on_step is not None:
            at = self._protocol.clock.seconds() - self._started
            distance = to_int(contact.id) ^ self.lookup.target
            self.on_step(Step(at, event, contact, distance, self.lookup.hops_to(contact), contacts))

    def _unmet(self, rows: list[Any]) -> list[Any]:
        """Return the rows that may be contacts which the lookup has not met: few of them are worth the parsing."""
        met = self.lookup
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
    if not is_value(value):
        return None
    return Found(value, version_in(extension), life_in(extension, expire), contact, DOUBTFUL in extension)
