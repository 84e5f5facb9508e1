"""Lookups over the network: a `Lookup` driven by real questions and answers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from twisted.internet.defer import Deferred

from kademlia.contact import Contact, parse_contact
from kademlia.ids import to_int
from kademlia.lookup import Lookup
from kademlia.protocol import life_in, version_in
from kademlia.records import Value, is_value

if TYPE_CHECKING:
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
        self._protocol = protocol
        self._target = target
        self._method = method
        self._started = now
        self._done: Deferred[Found | None] = Deferred()
        self._finished = False
        self._advancing = False

    def run(self) -> Deferred[Found | None]:
        """Fire with the value found, or with None when the lookup converged without one."""
        self._advance()
        return self._done

    def _advance(self) -> None:
        # An answer may come while questions are being sent (there is no transport any more): no recursion then.
        if self._advancing:
            return
        self._advancing = True
        while not self._finished and (contacts := self.lookup.to_ask()):
            for contact in contacts:
                asked = self._protocol.ask(contact, self._method, self._target, partial(self._slow, contact))
                asked.addCallback(self._answered, contact)
        self._advancing = False
        if not self._finished and self.lookup.done:
            self._finish(None)

    def _slow(self, contact: Contact) -> None:
        self.lookup.slow(contact)
        self._advance()

    def _answered(self, answer: Answer, contact: Contact) -> None:
        if not answer.happened:
            self.lookup.failed(contact)
        elif isinstance(answer.value, list):
            self._learned(contact, answer.value)
        elif (
            self._method == "find_value"
            and (found := self.value_in(answer, contact, self._protocol.keeper.expire)) is not None
        ):
            self.lookup.answered(contact)
            if not self._finished:
                self._finish(found)
        else:
            self.lookup.failed(contact)
        self._advance()

    def _learned(self, contact: Contact, rows: list[object]) -> None:
        limit = max(self.lookup.ksize, MAX_CONTACTS)
        contacts = [new for row in rows[:limit] if (new := self._new_contact(row)) is not None]
        self.lookup.answered(contact, contacts)
        now = self._protocol.clock.seconds()
        for learned in contacts:
            if self._protocol.table.backed_off(learned, now):
                self.lookup.avoid(learned)

    def _new_contact(self, row: object) -> Contact | None:
        # Most contacts in an answer were in earlier ones: those are not worth the parsing.
        if isinstance(row, list) and row and isinstance(row[0], bytes) and row[0] in self.lookup:
            return None
        return parse_contact(row)

    @staticmethod
    def value_in(answer: Answer, contact: Contact, expire: float) -> Found | None:
        """Return the value that an answer to `find_value` carries, if it does; `expire` is a plain pair's life."""
        if not isinstance(answer.value, dict):
            return None
        value = answer.value.get("value")
        if not is_value(value):
            return None
        return Found(value, version_in(answer.extension), life_in(answer.extension, expire), contact)

    def _finish(self, found: Found | None) -> None:
        self._finished = True
        stats = self._protocol.stats
        kind = self._method.removeprefix("find_")
        if found is not None:
            outcome = "found"
        elif not self.lookup.closest():
            outcome = "empty"
        else:
            outcome = "missing" if kind == "value" else "converged"
        stats.lookups[kind, outcome] += 1
        stats.lookup_seconds.observe(self._protocol.clock.seconds() - self._started)
        stats.lookup_hops.observe(self.lookup.hops_to(found.holder) if found else self.lookup.hops)
        self._done.callback(found)
