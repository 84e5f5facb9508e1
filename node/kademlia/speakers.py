"""Who takes large values.  Stock peers do not: asking them would look like a failure of theirs.

Only a peer's own answers to our own questions count here: anybody may send a request in another's name.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kademlia.contact import Contact

#: contacts remembered
CAPACITY: Final = 4096


class Speakers:
    """The largest encoded value that each contact takes, as far as is known; 0 of a stock peer."""

    def __init__(self) -> None:
        self._limits: OrderedDict[Contact, int] = OrderedDict()

    def learned(self, contact: Contact, limit: object) -> None:
        """Take note of what a contact stated; anything but a size is what a stock peer states."""
        limit = limit if type(limit) is int and limit > 0 else 0
        if self._limits.get(contact) == limit:
            return
        self._limits[contact] = limit
        self._limits.move_to_end(contact)
        if len(self._limits) > CAPACITY:
            self._limits.popitem(last=False)

    def forget(self, contact: Contact) -> None:
        """Forget a contact that failed or was restarted: another program may answer there next."""
        self._limits.pop(contact, None)

    def known(self, contact: Contact) -> bool:
        """Tell whether it is known what a contact takes."""
        return contact in self._limits

    def refuses(self, contact: Contact) -> bool:
        """Tell whether a contact is known as a stock peer."""
        return self._limits.get(contact) == 0

    def takes(self, contact: Contact, size: int) -> bool:
        """Tell whether a contact is known to take an encoded value of `size` bytes."""
        return self._limits.get(contact, 0) >= size

    def without_refusers(self, contacts: Iterable[Contact], size: int) -> list[Contact]:
        """Return those of some contacts that are not known to be unable to take `size` bytes."""
        return [contact for contact in contacts if self._limits.get(contact, size) >= size]
