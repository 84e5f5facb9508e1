"""Datagrams as rpcudp 5 writes them, and our extensions behind them.

A datagram is a type byte (0 request, 1 response), the 20-byte RPC ID, and one msgpack object: `[name, args]` or
the answer.  An extension is a second msgpack object, a map, behind the first.  rpcudp decodes one object and never
looks further, so a stock peer is not disturbed, and no round trip is spent on finding out who understands what.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgpack
from rpcudp.exceptions import MalformedMessage

from kademlia.errors import KademliaError
from kademlia.ids import ID_BYTES

REQUEST, RESPONSE = 0, 1
HEADER = 1 + ID_BYTES
#: what UDP over IPv4 can carry
MAX_DATAGRAM = 65507

Extension = dict[str, Any]

_PREFIX = {kind: bytes([kind]) for kind in (REQUEST, RESPONSE)}


class MalformedDatagram(KademliaError, MalformedMessage):  # type: ignore[misc]  # rpcudp ships no types
    """A datagram is not a message of this protocol; it was dropped."""


class Message(NamedTuple):
    """A decoded datagram."""

    kind: int
    rpc_id: bytes
    body: Any
    extension: Extension


def encode(kind: int, rpc_id: bytes, body: object, extension: Extension | None = None) -> bytes:
    """Return the datagram; raises `OverflowError` for an integer that msgpack cannot carry."""
    datagram: bytes = _PREFIX[kind] + rpc_id + msgpack.packb(body)
    if extension:
        datagram += msgpack.packb(extension)
    return datagram


def decode(datagram: bytes) -> Message:
    """Return the message of a datagram from anywhere; raises `MalformedDatagram`, and nothing else."""
    if not HEADER < len(datagram) <= MAX_DATAGRAM:
        raise MalformedDatagram(f"{len(datagram)} bytes cannot be a message")
    kind = datagram[0]
    if kind not in _PREFIX:
        raise MalformedDatagram(f"unknown message type {kind}")
    unpacker = msgpack.Unpacker(strict_map_key=False, max_buffer_size=MAX_DATAGRAM)
    unpacker.feed(datagram[HEADER:])
    try:
        body = unpacker.unpack()
    # ValueError and its kin, running out of data, unhashable map keys, nesting beyond the decoder's stack
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise MalformedDatagram(f"not msgpack: {error}") from None
    return Message(kind, datagram[1:HEADER], body, _extension(unpacker))


def _extension(unpacker: msgpack.Unpacker) -> Extension:
    """Return what stands behind the first object if it is a map with text keys; anything else is no extension."""
    try:
        extension = unpacker.unpack()
    except (ValueError, TypeError, msgpack.exceptions.UnpackException):
        return {}
    if isinstance(extension, dict) and all(type(key) is str for key in extension):
        return extension
    return {}
