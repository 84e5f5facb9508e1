"""Which record may replace which: the rules of holding a pair, apart from where it is kept."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING

from kademlia.errors import QuotaExceeded, StorageError
from kademlia.parts import is_large
from kademlia.records import Record, Value, encode_value
from kademlia.stats import Reception, Stats

if TYPE_CHECKING:
    from collections.abc import Callable

    from kademlia.storage import Storage

MICROSECONDS = 1_000_000
#: seconds by which a version may be ahead of the own clock: more than a wrong time zone makes of it.  Without a
#: bound, one STORE with the largest version would make a key unwritable
MAX_AHEAD = 86400.0
#: replaced values remembered, to recognise stock holders that repeat them
MAX_REPLACED = 1024


class Keeper:
    """Holds records for the network.

    Versioned records are ordered by `Record.order`; an older one never replaces a newer one, whatever repeats it.
    A plain record (from a stock peer, without a version) replaces what is held, as the stock peer expects, unless
    it is the very value that was replaced before: stock holders go on repeating what they have.

    `expire` is the life in seconds of a fresh publication; `wall` is the wall clock, in seconds since the epoch.
    """

    def __init__(
        self, storage: Storage, expire: float, wall: Callable[[], float], stats: Stats | None = None
    ) -> None:
        self.storage = storage
        self.expire = expire
        self.wall = wall
        self.stats = stats if stats is not None else Stats()
        #: wall-clock seconds; what was received before may have been replaced elsewhere while we were away
        self.doubted_before = 0.0
        self._replaced: OrderedDict[bytes, bytes] = OrderedDict()

    def get(self, key: bytes) -> Record | None:
        """Return the live record of a key; an expired one does not exist, deleted or not."""
        record = self.storage.get(key)
        return record if record is not None and record.expires_at > self.wall() else None

    def doubts(self, record: Record) -> bool:
        """Tell whether a newer publication may have passed this peer by."""
        return record.received_at < self.doubted_before

    def next_version(self, key: bytes) -> int:
        """Return a version for a new publication of a key, above any that this peer knows."""
        held = self.storage.get(key)
        now = int(self.wall() * MICROSECONDS)
        return now if held is None else max(now, held.version + 1)

    def believes(self, version: int) -> bool:
        """Tell whether a version can be that of a publication: it is not far in the future."""
        return version <= (self.wall() + MAX_AHEAD) * MICROSECONDS

    def accept(self, key: bytes, value: Value, version: int, life: float, *, own: bool = False) -> Record:
        """Take in a versioned pair with `life` seconds left; return what is held then: this, or a newer one.

        The life left travels with the pair, so passing it on between holders never makes it longer than its
        publisher gave it (paper, section 2.3).  Raises `QuotaExceeded` and changes nothing when the store is full.
        `own` says that it comes from this peer and not from another, and is no traffic.
        """
        now = self.wall()
        held = self.get(key)
        # Whoever stores here may have been away too: what is doubted is confirmed by asking (see `touch`).
        received_at = held.received_at if held is not None and self.doubts(held) else now
        offered = Record(key, value, version, now + min(life, self.expire), received_at)
        reception: Reception = "new"
        if held is not None:
            if held.order > offered.order:
                if not own:
                    self.stats.received.count("older", offered.size)
                return held
            if held.order == offered.order:
                reception = "refreshed"
                offered = replace(offered, expires_at=max(held.expires_at, offered.expires_at))
            else:
                reception = "newer"
                self.storage.unpublish(key)  # somebody published a newer value: ours is not to come back
                self._remember_replaced(held)
        if own:
            self.storage.put(offered)
        else:
            self._receive(offered, reception)
        return offered

    def accept_plain(self, key: bytes, value: Value) -> Record:
        """Take in a pair from a stock peer, which knows neither versions nor lives."""
        now = self.wall()
        held = self.get(key)
        if held is not None and held.version and encode_value(held.value) == encode_value(value):
            # A stock holder repeats what we published: that is replication, and does not extend the life.
            record = held if self.doubts(held) else replace(held, received_at=now)
            reception: Reception = "refreshed"
        elif held is not None and held.version and self._replaced.get(key) == encode_value(value):
            self.stats.received.count("older", len(encode_value(value)))
            return held
        else:
            version = self.next_version(key) if held is not None and held.version else 0
            record = Record(key, value, version, now + self.expire, now)
            if held is None:
                reception = "new"
            else:
                reception = "refreshed" if encode_value(held.value) == encode_value(value) else "newer"
        self._receive(record, reception)
        return record

    def has_room(self, key: bytes, size: int) -> bool:
        """Tell whether an encoded value of `size` bytes would be within the store's quotas."""
        storage, held = self.storage, self.storage.get(key)
        if held is None and storage.count >= storage.max_keys:
            return False
        return storage.size + size - (held.size if held else 0) <= storage.max_bytes

    def _receive(self, record: Record, reception: Reception) -> None:
        try:
            self.storage.put(record)
        except (QuotaExceeded, StorageError):
            self.stats.received.count("refused", record.size)
            raise
        self.stats.received.count(reception, record.size)

    def _remember_replaced(self, record: Record) -> None:
        if is_large(record.value):
            return  # no stock holder has ever had it
        self._replaced[record.key] = encode_value(record.value)
        self._replaced.move_to_end(record.key)
        if len(self._replaced) > MAX_REPLACED:
            self._replaced.popitem(last=False)

    def touch(self, record: Record) -> None:
        """Take note that a record was replicated, or confirmed, just now, if it is still the one held."""
        held = self.storage.get(record.key)
        if held is not None and held.order == record.order:  # not `held == record`: a NaN equals nothing
            self.storage.put(replace(held, received_at=self.wall()))
