"""Giving peers the pairs that they should hold and do not (paper, section 2.5).

A peer that joins, or comes back, is handed the pairs it belongs to the k closest of, by the closest other holder;
and whoever could not be given a record because it did not answer gets it later: see `missed`.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, ensureDeferred, gatherResults
from twisted.logger import Logger

from kademlia.ids import to_bytes, to_int
from kademlia.missed import Missed
from kademlia.publishing import large_size
from kademlia.storage import ends

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kademlia.clock import Clock
    from kademlia.contact import Contact
    from kademlia.publishing import Publisher
    from kademlia.records import Record
    from kademlia.stats import Stats

#: records whose STOREs are under way at once
WINDOW = 8
#: records read from the store in one step: well under a millisecond of the loop
PAGE = 32
#: peers that wait for their turn; an ID costs nothing to invent, and whom we forget is served by replication
MAX_JOINING = 256


class Handover:
    """The giving side of one peer.  `stop` may be called once."""

    log = Logger()

    def __init__(self, publisher: Publisher, clock: Clock, stats: Stats) -> None:
        self.publisher = publisher
        self.keeper = publisher.keeper
        self.table = publisher.table
        self.clock = clock
        self.stats = stats
        #: what holders could not be given
        self.missed = Missed(publisher.protocol, clock)
        self._stopped = False
        self._joining: OrderedDict[bytes, Contact] = OrderedDict()
        self._handing_over = False

    def stop(self) -> None:
        """End with the step under way."""
        self._stopped = True
        self.missed.stop()

    def joined(self, contact: Contact) -> None:
        """Give a peer that joined what it missed, and then the pairs it is one of the k closest for."""
        self.missed.heard_from(contact)
        if self._stopped or not self.keeper.storage.count or not self.table.shares_keys(contact):
            return
        self._joining[contact.id] = contact
        if len(self._joining) > MAX_JOINING:
            self._joining.popitem(last=False)
        if not self._handing_over:
            self._handing_over = True
            self.clock.callLater(0, lambda: ensureDeferred(self._hand_over()))

    async def _hand_over(self) -> None:
        try:
            while self._joining and not self._stopped:
                _, contact = self._joining.popitem()
                await self._hand_over_to(contact)
                await self._breathe()
        except Exception:
            self.log.failure("handing over failed")
        finally:
            self._handing_over = False

    async def _hand_over_to(self, contact: Contact) -> None:
        """Give what belongs to the contact and is closer to us than to all others: they need not do it too."""
        cell = self.table.own_cell(without=contact.id)
        async for page in self._pages(cell.lowest, cell.highest):
            mine = [record for record in page if to_int(record.key) in cell]
            given = [record for record in mine if self._belongs_to(contact, record)]
            for start in range(0, len(given), WINDOW):
                window = given[start : start + WINDOW]
                answers = await gatherResults(
                    [self.publisher.protocol.store_at(contact, record, "handover") for record in window]
                )
                self.stats.maintenance["handover"] += len(answers)
                if not any(answer.happened for answer in answers):
                    return  # it has gone again

    async def _pages(self, lowest: int, highest: int) -> AsyncIterator[list[Record]]:
        """Read the records of a range of keys page by page, with other work in between."""
        after = to_bytes(lowest - 1) if lowest else None
        last = to_bytes(highest)
        while not self._stopped:
            page = self.keeper.storage.page(after, PAGE)
            yield [record for record in page if record.key <= last]
            if ends(page, PAGE) or page[-1].key >= last:
                return
            after = page[-1].key
            await self._breathe()

    def _belongs_to(self, contact: Contact, record: Record) -> bool:
        """Tell whether the contact is one of the k closest to a live record."""
        if record.expires_at <= self.keeper.wall():
            return False
        key = to_int(record.key)
        closest = self.publisher.protocol.closest(key, large_size(record))
        if contact not in closest:
            return False
        we_are_closer = self.table.own_number ^ key < to_int(contact.id) ^ key
        return closest.index(contact) + we_are_closer < self.table.ksize

    def _breathe(self) -> Deferred[None]:
        """Let the loop do other things before the next step."""
        turn: Deferred[None] = Deferred()
        self.clock.callLater(0, turn.callback, None)
        return turn
