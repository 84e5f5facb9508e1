"""Where a peer keeps records: the interface, and the store that forgets when the process ends."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from typing import TYPE_CHECKING, Protocol

from kademlia.errors import QuotaExceeded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kademlia.records import Publication, Record

#: Defaults of the configuration file's [storage].
MAX_KEYS = 1_000_000
MAX_BYTES = 1 << 30
#: bytes of encoded values after which a page ends, however few they are
PAGE_BYTES = 4 << 20


class Storage(Protocol):
    """Records by key, and this peer's own publications.

    A `put` that returned is as durable as the store is: a durable one has it after SIGKILL.  Deciding whether a
    record may replace another is not the store's business.
    """

    #: records held, and the bytes of their encoded values
    count: int
    size: int
    #: the quotas of both
    max_keys: int
    max_bytes: int

    def get(self, key: bytes) -> Record | None:
        """Return the record of a 20-byte key, expired or not, or None."""
        ...

    def put(self, record: Record) -> None:
        """Insert or replace a record; raises `QuotaExceeded` and changes nothing when the store is full."""
        ...

    def delete(self, key: bytes) -> None:
        """Forget a record; no effect when there is none."""
        ...

    def page(self, after: bytes | None, limit: int) -> list[Record]:
        """Return up to `limit` records in key order, those after the key `after`; `ends` tells whether it is all.

        The page ends early with the record by which its values reach `PAGE_BYTES`.
        """
        ...

    def received_before(self, moment: float, limit: int) -> list[Record]:
        """Return up to `limit` records whose last STORE arrived before `moment`, longest ago first."""
        ...

    def expire(self, now: float) -> int:
        """Delete the records whose `expires_at` is not after `now`; return how many."""
        ...

    def publish(self, publication: Publication) -> None:
        """Remember a publication of this peer, replacing an earlier one of the same key."""
        ...

    def unpublish(self, key: bytes) -> None:
        """Forget a publication."""
        ...

    def published_before(self, moment: float, limit: int) -> list[Publication]:
        """Return up to `limit` publications last published before `moment`, longest ago first."""
        ...

    def close(self) -> None:
        """Release what the store holds open."""
        ...


class MemoryStorage:
    """A store that lives as long as its process."""

    def __init__(self, max_keys: int = MAX_KEYS, max_bytes: int = MAX_BYTES) -> None:
        self.count = 0
        self.size = 0
        self.max_keys = max_keys
        self.max_bytes = max_bytes
        # In order of arrival, so that `received_before` reads no more than it returns.
        self._records: dict[bytes, Record] = {}
        self._keys: list[bytes] = []  # sorted
        self._publications: dict[bytes, Publication] = {}

    def get(self, key: bytes) -> Record | None:
        """Return the record of a key, or None."""
        return self._records.get(key)

    def put(self, record: Record) -> None:
        """Insert or replace a record."""
        old = self._records.get(record.key)
        size = self.size + record.size - (old.size if old else 0)
        if size > self.max_bytes or (old is None and self.count >= self.max_keys):
            raise QuotaExceeded(f"the store is full ({self.count} keys, {self.size} bytes)")
        if old is None:
            insort(self._keys, record.key)
        if old is None or old.received_at != record.received_at:
            self._records.pop(record.key, None)
        self._records[record.key] = record
        self.count, self.size = len(self._records), size

    def delete(self, key: bytes) -> None:
        """Forget a record."""
        old = self._records.pop(key, None)
        if old is not None:
            del self._keys[bisect_left(self._keys, key)]
            self.count, self.size = len(self._records), self.size - old.size

    def page(self, after: bytes | None, limit: int) -> list[Record]:
        """Return records in key order."""
        start = 0 if after is None else bisect_right(self._keys, after)
        return list(page_of(self._records[key] for key in self._keys[start : start + limit]))

    def received_before(self, moment: float, limit: int) -> list[Record]:
        """Return records whose last STORE is longest ago."""
        found: list[Record] = []
        for record in self._records.values():
            if record.received_at >= moment or len(found) >= limit:
                break
            found.append(record)
        return found

    def expire(self, now: float) -> int:
        """Delete what has expired."""
        gone = [record.key for record in self._records.values() if record.expires_at <= now]
        for key in gone:
            self.delete(key)
        return len(gone)

    def publish(self, publication: Publication) -> None:
        """Remember a publication."""
        self._publications.pop(publication.key, None)
        self._publications[publication.key] = publication

    def unpublish(self, key: bytes) -> None:
        """Forget a publication."""
        self._publications.pop(key, None)

    def published_before(self, moment: float, limit: int) -> list[Publication]:
        """Return publications last published before a moment."""
        due = [p for p in self._publications.values() if p.published_at < moment]
        return sorted(due, key=lambda p: p.published_at)[:limit]

    def close(self) -> None:
        """Nothing is held open."""


def page_of(records: Iterable[Record]) -> Iterator[Record]:
    """Yield records until their values reach `PAGE_BYTES`."""
    size = 0
    for record in records:
        yield record
        size += record.size
        if size >= PAGE_BYTES:
            return


def ends(page: list[Record], limit: int) -> bool:
    """Tell whether a page that was read with this limit is the last one."""
    return len(page) < limit and sum(record.size for record in page) < PAGE_BYTES
