"""Which keys a run uses, and values from which a wrong answer is recognised."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from scenarios.options import between

if TYPE_CHECKING:
    import random

#: room for the header of every value; smaller sizes are refused
SMALLEST_VALUE = 96
_MAGIC = b"kademlia-testbed 1 "

#: given a random generator and the number of keys n >= 1, an index below n
KeyChooser = Callable[["random.Random", int], int]


def key_digest(key: str) -> str:
    """Return the 160-bit key of the network, 40 hex digits: SHA-1 of the key's bytes."""
    return hashlib.sha1(key.encode(), usedforsecurity=False).hexdigest()


class Values:
    """Makes the value of a key and sequence number, and says what is wrong with bytes that should be it.

    A value is a header line (magic, run, key's digest, sequence number) and bytes expanded from that header by
    SHAKE-128 up to `size`: every byte can be recomputed, so any change in transit or in a store is seen.
    """

    def __init__(self, run_id: str, size: int) -> None:
        self.size = size
        self._prefix = (
            _MAGIC + hashlib.sha1(run_id.encode(), usedforsecurity=False).hexdigest()[:12].encode() + b" "
        )

    def make(self, key: str, seq: int) -> bytes:
        """Return the value, exactly `size` bytes."""
        header = self._prefix + f"{key_digest(key)} {seq}\n".encode()
        return header + hashlib.shake_128(header).digest(self.size - len(header))

    def fingerprint(self, key: str, seq: int = 0) -> str:
        """Return the SHA-1 of the value, 40 hex digits, as `/storage` lists it."""
        return hashlib.sha1(self.make(key, seq), usedforsecurity=False).hexdigest()

    def complaint(self, key: str, seq: int, body: bytes) -> str:
        """Return what is wrong with `body` as the value of this key, or "" when nothing is."""
        expected = self.make(key, seq)
        if body == expected:
            return ""
        if not body.startswith(_MAGIC):
            return f"{len(body)} bytes that no run of this kit wrote"
        header = body.partition(b"\n")[0]
        digest = header.removeprefix(self._prefix).partition(b" ")[0]
        if not header.startswith(self._prefix):
            complaint = f"{len(body)} bytes of another run's value"
        elif digest != key_digest(key).encode():
            complaint = f"the value of another key, with digest {digest[:40].decode('ascii', 'replace')}"
        elif len(body) < len(expected):
            complaint = f"its value cut off after {len(body)} of {len(expected)} bytes"
        elif header + b"\n" != expected[: len(header) + 1]:
            complaint = f"another version of its value: {header[-20:].decode('ascii', 'replace')}"
        else:
            complaint = "its value with changed bytes"
        return complaint


class Ledger:
    """What clients were promised: the acknowledged keys, in the order of their acknowledgement."""

    def __init__(self, run_id: str) -> None:
        # Short enough to be read, and no two runs share it: an old copy must never pass for a new key.
        self._prefix = hashlib.sha1(run_id.encode(), usedforsecurity=False).hexdigest()[:8]
        self._issued = 0
        self.keys: list[str] = []
        #: key -> the peer that acknowledged it
        self.writer: dict[str, str] = {}

    def new_key(self) -> str:
        """Return a key that this run has not used."""
        key = f"{self._prefix}/{self._issued:06d}"
        self._issued += 1
        return key

    def acknowledge(self, key: str, peer: str) -> None:
        """Note that a put of this key was acknowledged through this peer."""
        if key not in self.writer:
            self.writer[key] = peer
            self.keys.append(key)


def uniform(rng: random.Random, n: int) -> int:
    """Choose every key with the same probability."""
    return int(rng.random() * n)


def zipf(exponent: float) -> KeyChooser:
    """Choose the key of rank r (the oldest has rank 1) with a probability that falls as r to the -exponent.

    The inverse of the continuous distribution on [1, n+1) is used: exact enough for load, and no table has to
    follow a number of keys that grows all the time.
    """

    def choose(rng: random.Random, n: int) -> int:
        if exponent == 1.0:
            rank = math.exp(rng.random() * math.log(n + 1))
        else:
            power = 1.0 - exponent
            rank = ((math.pow(n + 1, power) - 1.0) * rng.random() + 1.0) ** (1.0 / power)
        return min(n - 1, int(rank) - 1)

    return choose


def parse_popularity(text: str) -> KeyChooser:
    """Return the chooser of `uniform` or `zipf:EXPONENT`; raises `ValueError` for anything else."""
    family, _, parameter = text.partition(":")
    if text == "uniform":
        return uniform
    if family == "zipf":
        return zipf(between(0, 10, open_low=True)(parameter or "1"))
    raise ValueError("write uniform or zipf:EXPONENT")
