"""160-bit identifiers and the XOR metric (paper, section 2.1)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, TypeGuard

if TYPE_CHECKING:
    import random

ID_BITS = 160
ID_BYTES = ID_BITS // 8


def digest(key: object) -> bytes:
    """Return the 20-byte SHA-1 under which the network knows a key; text is taken as UTF-8."""
    data = key if isinstance(key, bytes) else str(key).encode("utf-8")
    return hashlib.sha1(data, usedforsecurity=False).digest()


def random_id(rng: random.Random) -> bytes:
    """Draw a 20-byte node ID or RPC ID."""
    return rng.getrandbits(ID_BITS).to_bytes(ID_BYTES, "big")


def to_int(identifier: bytes) -> int:
    """Return a 20-byte identifier as the integer it stands for."""
    return int.from_bytes(identifier, "big")


def to_bytes(number: int) -> bytes:
    """Return the 20-byte form of an integer below 2**160."""
    return number.to_bytes(ID_BYTES, "big")


def is_id(value: object) -> TypeGuard[bytes]:
    """Tell whether a value received from outside is a 20-byte identifier."""
    return type(value) is bytes and len(value) == ID_BYTES
