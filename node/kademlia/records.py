"""What a peer stores: values with a version and a life, and what it published itself."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TypeGuard

import msgpack

from kademlia.codec import pack
from kademlia.ids import digest

#: What the stock implementation accepts as a value.
Value = bytes | str | int | float | bool
VALUE_TYPES = (bytes, str, int, float, bool)
#: bytes of the largest value, unless configured otherwise ([storage] max_value)
MAX_SIZE = 1 << 20
#: what may be configured for it; a value is hashed in one turn of the loop, some milliseconds at the most
LEAST_MAX_VALUE, MOST_MAX_VALUE = 8192, 16 << 20


def is_value(value: object) -> TypeGuard[Value]:
    """Tell whether something received from outside can be stored."""
    return type(value) in VALUE_TYPES


def encode_value(value: Value) -> bytes:
    """Return the value as the msgpack bytes that travel and are stored (so 1, 1.0, True and "1" stay apart)."""
    return pack(value)


def decode_value(blob: bytes) -> Value:
    """Undo `encode_value`."""
    value: Value = msgpack.unpackb(blob)
    return value


def content_of(value: Value) -> bytes:
    """Return the value as the bytes an HTTP client sees: bytes as they are, anything else as its text."""
    if isinstance(value, bytes):
        return value
    return str(value).encode("utf-8")


def sha256(blob: bytes | bytearray) -> bytes:
    """Return the SHA-256 of an encoded value: by it concurrent publications are ordered, and large ones named."""
    return hashlib.sha256(blob).digest()


def order_of(version: int, value: Value) -> tuple[int, bytes]:
    """Return the sort key of publications of one key: by version, for concurrent writers by the value's digest."""
    return version, sha256(encode_value(value))


@dataclass(frozen=True, slots=True)
class Record:
    """One key-value pair held for the network.  Times are wall-clock seconds since the epoch.

    A peer's clock is trusted for its own records only: what travels is the life that is left, not a date.
    """

    key: bytes
    value: Value
    #: microseconds since the epoch when it was published; orders two publications of one key.
    #: 0: came from a plain (stock) peer, which has no versions
    version: int
    #: when this holder forgets it (paper, section 2.3: 24 h after the publisher last published)
    expires_at: float
    #: when a STORE for it last arrived (paper, section 2.5: not replicated within the hour after that)
    received_at: float

    @property
    def size(self) -> int:
        """Bytes of the encoded value: what counts for quotas."""
        return len(encode_value(self.value))

    @property
    def order(self) -> tuple[int, bytes]:
        """Sort key of publications of one key: the later version wins, equal versions by the value's digest."""
        return order_of(self.version, self.value)

    def as_json(self, now: float) -> dict[str, object]:
        """Return the row of `GET /storage` for this record; `now` is wall-clock seconds."""
        content = content_of(self.value)
        return {
            "key": self.key.hex(),
            "version": self.version,
            "age": round(max(0.0, now - self.received_at), 3),
            "expires_in": round(self.expires_at - now, 3),
            "size": len(content),
            "value_sha1": digest(content).hex(),
        }


@dataclass(frozen=True, slots=True)
class Publication:
    """A pair of which this peer is the original publisher, to be republished (paper, section 2.3)."""

    key: bytes
    value: Value
    version: int
    #: wall-clock seconds when it was last published; later where that failed, by what it is put off
    published_at: float
