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

#: what most messages have behind the first object; nobody changes it
NO_EXTENSION: Extension = {}

_PREFIX = {kind: bytes([kind]) for kind in (REQUEST, RESPONSE)}
REQUEST_PREFIX = _PREFIX[REQUEST]
RESPONSE_PREFIX = _PREFIX[RESPONSE]


#: ValueError and its kin, running out of data, unhashable map keys, nesting beyond the decoder's stack
_UNREADABLE = (ValueError, TypeError, msgpack.exceptions.UnpackException)


class MalformedDatagram(KademliaError, MalformedMessage):  # type: ignore[misc]  # rpcudp ships no types
    """A datagram is not a message of this protocol; it was dropped."""


class Message(NamedTuple):
    """A decoded datagram."""

    kind: int
    rpc_id: bytes
    body: Any
    extension: Extension


_packer = msgpack.Packer()


class Packed(bytes):
    """An answer that is msgpack already."""

    __slots__ = ()


def pack(body: object, extension: Extension | None = None) -> bytes:
    """Return what a datagram carries behind its RPC ID: the same for every peer that is told the same.

    Raises `OverflowError` for an integer that msgpack cannot carry.
    """
    packed: bytes = body if type(body) is Packed else _packer.pack(body)
    return packed + _packer.pack(extension) if extension else packed


def pack_array(items: list[bytes]) -> Packed:
    """Return the array of packed items."""
    return Packed(_packer.pack_array_header(len(items)) + b"".join(items))


def encode(kind: int, rpc_id: bytes, body: object, extension: Extension | None = None) -> bytes:
    """Return the datagram; raises `OverflowError` for an integer that msgpack cannot carry."""
    return _PREFIX[kind] + rpc_id + pack(body, extension)


class Decoder:
    """Reads datagrams through one buffer: to make a new one takes longer than to read a datagram."""

    def __init__(self) -> None:
        self._renew()

    def _renew(self) -> None:
        """Begin with an empty buffer, where the last datagram left something in it."""
        self._unpacker = msgpack.Unpacker(strict_map_key=False, max_buffer_size=MAX_DATAGRAM)
        self._end = 0

    def read(self, datagram: bytes) -> tuple[int, bytes, Any, Extension]:
        """Return the fields of `Message`, of a datagram from anywhere.

        Raises `MalformedDatagram`, and nothing else.
        """
        if not HEADER < len(datagram) <= MAX_DATAGRAM:
            raise MalformedDatagram(f"{len(datagram)} bytes cannot be a message")
        kind = datagram[0]
        if kind not in _PREFIX:
            raise MalformedDatagram(f"unknown message type {kind}")
        unpacker = self._unpacker
        unpacker.feed(datagram[HEADER:])
        self._end += len(datagram) - HEADER
        try:
            body = unpacker.unpack()
        except _UNREADABLE as error:
            self._renew()
            raise MalformedDatagram(f"not msgpack: {error}") from None
        extension = NO_EXTENSION if unpacker.tell() == self._end else self._extension()
        return kind, datagram[1:HEADER], body, extension

    def _extension(self) -> Extension:
        """Return what stands behind the first object if it is a map with text keys; anything else is none."""
        try:
            extension = self._unpacker.unpack()
        except _UNREADABLE:
            self._renew()
            return NO_EXTENSION
        if self._unpacker.tell() != self._end:
            self._renew()
        if not isinstance(extension, dict):
            return NO_EXTENSION
        for key in extension:
            if type(key) is not str:
                return NO_EXTENSION
        return extension


read = Decoder().read


def decode(datagram: bytes) -> Message:
    """Return the message of a datagram from anywhere; raises `MalformedDatagram`, and nothing else."""
    return Message(*read(datagram))
