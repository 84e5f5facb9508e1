"""Datagrams: the bytes of rpcudp and kademlia 2.2.3, our extension behind them, and whatever else arrives."""

from __future__ import annotations

import umsgpack
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kademlia.codec import REQUEST, RESPONSE, MalformedDatagram, decode, encode

RPC_ID = bytes(range(20))

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.text()
    | st.binary()
    | st.floats(allow_nan=False)
)
bodies = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4), max_leaves=20)
extensions = st.dictionaries(st.text(min_size=1, max_size=4), scalars, max_size=4)


class Encoding(SynchronousTestCase):
    """What we send."""

    @given(bodies)
    def test_the_bytes_are_those_of_rpcudp(self, body: object) -> None:
        """rpcudp encodes in pure Python; the C codec must not differ in a single byte."""
        assert encode(REQUEST, RPC_ID, body) == b"\x00" + RPC_ID + umsgpack.packb(body)

    @given(bodies, extensions)
    def test_a_stock_peer_reads_past_the_extension(self, body: object, extension: dict[str, object]) -> None:
        """rpcudp decodes the first object of a datagram and nothing else."""
        datagram = encode(RESPONSE, RPC_ID, body, extension)
        assert umsgpack.unpackb(datagram[21:]) == body

    @given(bodies, extensions)
    def test_we_read_both(self, body: object, extension: dict[str, object]) -> None:
        """Body and extension come back as they were."""
        assert decode(encode(RESPONSE, RPC_ID, body, extension)) == (RESPONSE, RPC_ID, body, extension)


class Decoding(SynchronousTestCase):
    """What anybody may send."""

    @given(st.binary(max_size=200))
    @example(b"")
    @example(b"\x00" + RPC_ID)
    @example(b"\x07" + RPC_ID + b"\x90")
    @example(b"\x00" + RPC_ID + b"\x91" * 2000)
    @example(b"\x00" + RPC_ID + b"\xdd\xff\xff\xff\xff")
    @example(b"\x00" + RPC_ID + b"\xc6\xff\xff\xff\xff")
    @example(b"\x00" + RPC_ID + b"\x81\x90\x01")
    @example(b"\x00" + RPC_ID + b"\xa1\xff")
    def test_any_bytes_are_a_message_or_malformed(self, datagram: bytes) -> None:
        """Too short, of no type, cut, nested to death, with impossible lengths, unhashable keys, broken text."""
        try:
            message = decode(datagram)
        except MalformedDatagram:
            return
        assert message.rpc_id == datagram[1:21]

    @given(st.binary(max_size=100))
    def test_garbage_behind_a_good_message_is_no_extension(self, garbage: bytes) -> None:
        """What comes from elsewhere must not lose us the message in front of it."""
        message = decode(encode(REQUEST, RPC_ID, ["ping", [RPC_ID]]) + garbage)
        assert message.body == ["ping", [RPC_ID]]
        assert isinstance(message.extension, dict)
        assert all(isinstance(name, str) for name in message.extension)
