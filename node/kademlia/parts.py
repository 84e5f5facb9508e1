"""Values larger than one datagram: how they are named and cut, and who keeps them at hand while others fetch them.

A large value is held whole, like any other; only its transport differs.  It is named by the size and the SHA-256
of its encoded form (`Parts`), and fetched part by part by whoever wants it: a holder to be, a reader.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from kademlia.records import Value, encode_value, sha256

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kademlia.keeper import Keeper
    from kademlia.records import Record

#: bytes of an encoded value that fit into a `store` request of at most 8192 bytes, which is all that rpcudp sends:
#: list and name 8, node ID and key 22 each
MAX_VALUE: Final = 8192 - 8 - 2 * 22
#: bytes of a part: its answer keeps well within the same 8192 bytes, so that with the kernel's own head it does,
#: too, which doubles how many of them fit into a socket's buffer
PART: Final = 7168
#: bytes that msgpack puts before bytes or text of any size
HEAD: Final = 5
#: bytes of encoded values kept at hand for those who fetch their parts
SHELF: Final = 8 << 20

# What bytes and text of more than `MAX_VALUE` begin with.
_MARKERS: Final = b"\xc5\xc6\xda\xdb"


class Parts(NamedTuple):
    """The name of a large value: bytes of its encoded form, and their SHA-256."""

    size: int
    sha256: bytes


class Parcel(NamedTuple):
    """A large value ready to be handed out."""

    key: bytes
    sha256: bytes
    blob: bytes

    @property
    def parts(self) -> Parts:
        """What a reader is told instead of the value."""
        return Parts(len(self.blob), self.sha256)


def is_large(value: Value) -> bool:
    """Tell whether a value needs more than one datagram."""
    if isinstance(value, bytes):
        return len(value) + 3 > MAX_VALUE
    # a character takes up to four bytes, and most text needs no encoding to be known as small
    return isinstance(value, str) and 4 * len(value) + 3 > MAX_VALUE and len(encode_value(value)) > MAX_VALUE


def parse_parts(size: object, digest: object) -> Parts | None:
    """Return the name that was received from outside, or None if it cannot be that of a large value."""
    if type(size) is int and MAX_VALUE < size < 1 << 32 and type(digest) is bytes and len(digest) == 32:
        return Parts(size, digest)
    return None


def assemble(blob: bytes | bytearray, parts: Parts) -> Value | None:
    """Return the value that bytes from outside are, or None unless they are exactly the one that was named."""
    if len(blob) != parts.size or blob[0] not in _MARKERS or sha256(blob) != parts.sha256:
        return None
    # Only the canonical spelling is a value: as every holder encodes it anew, another would get another digest.
    head = 3 if blob[0] in b"\xc5\xda" else HEAD
    body = bytes(memoryview(blob)[head:])
    try:
        value: Value = body if blob[0] in b"\xc5\xc6" else body.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return value if encode_value(value) == blob else None


class Shelf:
    """Encoded large values at hand: the ones asked for lately, and those that are being offered.

    Without it, each part would cost a reading of the whole value from the store.
    """

    def __init__(self, keeper: Keeper, capacity: int = SHELF) -> None:
        self._keeper = keeper
        self._capacity = capacity
        self._size = 0
        self._parcels: OrderedDict[bytes, Parcel] = OrderedDict()
        #: what this peer offers, whether it holds it or not, and how many offers of it are under way
        self._lent: dict[tuple[bytes, bytes], tuple[Parcel, int]] = {}

    def parcel(self, record: Record) -> Parcel:
        """Return what a large record is handed out as."""
        blob = encode_value(record.value)
        known = self._parcels.get(record.key)
        if known is not None and known.blob == blob:  # a comparison costs a tenth of a digest
            self._parcels.move_to_end(record.key)
            return known
        parcel = Parcel(record.key, sha256(blob), blob)
        self._size += len(blob) - (0 if known is None else len(known.blob))
        self._parcels[record.key] = parcel
        self._parcels.move_to_end(record.key)
        while self._size > self._capacity and len(self._parcels) > 1:
            _, oldest = self._parcels.popitem(last=False)
            self._size -= len(oldest.blob)
        return parcel

    def blob(self, key: bytes, digest: bytes) -> bytes | None:
        """Return the encoded value of that SHA-256, if it is offered, at hand or held."""
        lent = self._lent.get((key, digest))
        if lent is not None:
            return lent[0].blob
        known = self._parcels.get(key)
        if known is None or known.sha256 != digest:
            record = self._keeper.get(key)
            if record is None or not is_large(record.value):
                return None
            known = self.parcel(record)
        return known.blob if known.sha256 == digest else None

    @contextmanager
    def lending(self, parcel: Parcel) -> Iterator[None]:
        """Keep a parcel at hand for as long as it is offered."""
        name = parcel.key, parcel.sha256
        self._lent[name] = parcel, self._lent.get(name, (parcel, 0))[1] + 1
        try:
            yield
        finally:
            count = self._lent[name][1] - 1
            if count:
                self._lent[name] = parcel, count
            else:
                del self._lent[name]
