"""Records that holders could not be given because they did not answer, and giving them later.

A holder gets them when it is heard from again, and it is tried by and by: an answer may be lost without the holder
ever having been away.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from twisted.internet.defer import ensureDeferred, gatherResults
from twisted.logger import Logger

if TYPE_CHECKING:
    from kademlia.clock import Clock, DelayedCall
    from kademlia.contact import Contact
    from kademlia.protocol import KademliaProtocol
    from kademlia.records import Record

#: records kept, and the bytes of their values
MAX_MISSED: Final = 1000
MAX_MISSED_BYTES: Final = 32 << 20
#: seconds before the first attempt to give a holder what it missed; each further one doubles it, up to the last
FIRST_RETRY, LAST_RETRY = 1.0, 30.0
#: records whose STOREs are under way at once
WINDOW: Final = 8


class Waiting:
    """What one holder missed."""

    def __init__(self, contact: Contact) -> None:
        self.contact = contact
        #: by key
        self.records: dict[bytes, Record] = {}
        self.attempts = 0
        self.timer: DelayedCall | None = None
        self.giving = False


class Missed:
    """The missed records of one peer's holders.  `stop` may be called more than once."""

    log = Logger()

    def __init__(self, protocol: KademliaProtocol, clock: Clock) -> None:
        self.count = 0
        self.bytes = 0
        #: by node ID; who missed a record last is last
        self.waiting: OrderedDict[bytes, Waiting] = OrderedDict()
        self._protocol = protocol
        self._keeper = protocol.keeper
        self._table = protocol.table
        self._clock = clock
        self._stopped = False

    def stop(self) -> None:
        """Forget all of them."""
        self._stopped = True
        for node_id in list(self.waiting):
            self._forget(node_id)

    def add(self, contact: Contact, record: Record) -> None:
        """Remember that a holder could not be given a record; it never takes the place of a newer one."""
        if self._stopped:
            return
        waiting = self.waiting.setdefault(contact.id, Waiting(contact))
        waiting.contact = contact
        before = waiting.records.get(record.key)
        if before is None or before.order <= record.order:
            self._drop(waiting, record.key)
            waiting.records[record.key] = record
            self.count += 1
            self.bytes += record.size
        self.waiting.move_to_end(contact.id)
        self._try_later(waiting)
        while self.count > MAX_MISSED or self.bytes > MAX_MISSED_BYTES:
            self._forget(next(iter(self.waiting)))

    def superseded(self, record: Record) -> None:
        """Give nobody a record any more that somebody has a newer one than."""
        for waiting in self.waiting.values():
            missed = waiting.records.get(record.key)
            if missed is not None and missed.order <= record.order:
                self._drop(waiting, record.key)

    def heard_from(self, contact: Contact) -> None:
        """Give a contact that is back what it missed."""
        waiting = self.waiting.get(contact.id)
        if waiting is not None:
            waiting.contact, waiting.attempts = contact, 0
            self._give(waiting)

    def _drop(self, waiting: Waiting, key: bytes) -> None:
        record = waiting.records.pop(key, None)
        if record is not None:
            self.count -= 1
            self.bytes -= record.size

    def _forget(self, node_id: bytes) -> None:
        waiting = self.waiting.pop(node_id)
        for key in list(waiting.records):
            self._drop(waiting, key)
        if waiting.timer is not None:
            waiting.timer.cancel()
            waiting.timer = None

    def _try_later(self, waiting: Waiting) -> None:
        if self._stopped or waiting.timer is not None or waiting.giving:
            return
        wait = min(LAST_RETRY, FIRST_RETRY * 2 ** min(waiting.attempts, 10))
        waiting.timer = self._clock.callLater(wait, self._try, waiting)

    def _try(self, waiting: Waiting) -> None:
        waiting.timer = None
        waiting.attempts += 1
        entry = self._table.get(waiting.contact.id)
        if entry is not None and entry.suspect:
            self._protocol.probe(waiting.contact)  # a ping is enough to learn that it is back: see `heard_from`
            self._next(waiting)
            if waiting.contact.id in self.waiting:
                self._try_later(waiting)
        else:
            self._give(waiting)

    def _give(self, waiting: Waiting) -> None:
        if not waiting.giving and not self._stopped:
            waiting.giving = True
            ensureDeferred(self._give_all(waiting)).addErrback(
                lambda failure: self.log.failure("giving missed records failed", failure)
            )

    async def _give_all(self, waiting: Waiting) -> None:
        """Give a holder its records for as long as it answers; one is dropped when it was answered only."""
        try:
            while due := self._next(waiting):
                stores = [self._protocol.store_at(waiting.contact, record, "missed") for record in due]
                answers = await gatherResults(stores)
                for record, answer in zip(due, answers, strict=True):
                    missed = waiting.records.get(record.key)
                    if answer.happened and missed is not None and missed.order <= record.order:
                        self._drop(waiting, record.key)
                if self._stopped or not any(answer.happened for answer in answers):
                    break
        finally:
            waiting.giving = False
        self._next(waiting)
        if waiting.contact.id in self.waiting:
            self._try_later(waiting)

    def _next(self, waiting: Waiting) -> list[Record]:
        """Return what is to be given next, and forget what has expired, and the holder when nothing is left.

        Of a key that is held here too, nothing older is given than that.
        """
        due: list[Record] = []
        for key, missed in list(waiting.records.items()):
            held = self._keeper.get(key)
            record = held if held is not None and held.order > missed.order else missed
            if record.expires_at <= self._keeper.wall():
                self._drop(waiting, key)
                continue
            due.append(record)
            if len(due) == WINDOW:
                break
        if not due and self.waiting.get(waiting.contact.id) is waiting:
            self._forget(waiting.contact.id)
        return due
