"""Contacts as they are received, and the spelling of their addresses."""

from __future__ import annotations

import random
import socket

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase, TestCase

from kademlia.contact import Contact, canonical, is_address, parse_contact
from kademlia.errors import BootstrapError
from kademlia.network import Server

NODE_ID = bytes(range(20))


class Spelling(SynchronousTestCase):
    """One address, one spelling: answers are told from forgeries by comparing it."""

    @given(st.ip_addresses(v=6))
    def test_an_ipv6_address_is_spelled_as_the_socket_does(self, address: object) -> None:
        """In whatever spelling it is given."""
        packed = socket.inet_pton(socket.AF_INET6, str(address))
        shown = canonical(getattr(address, "exploded", ""))
        assert shown == canonical(str(address))
        assert shown in (None, socket.inet_ntop(socket.AF_INET6, packed))

    def test_addresses_of_one_peer_are_one_contact(self) -> None:
        """A mapped IPv4 address stays legible, as it is in what a dual-stack socket reports."""
        for spelled in ("::1", "0:0:0:0:0:0:0:1", "::0001", "0000:0000:0000:0000:0000:0000:0000:0001"):
            assert parse_contact([NODE_ID, spelled, 1]) == Contact(NODE_ID, "::1", 1)
        assert canonical("::FFFF:7f00:1") == "::ffff:127.0.0.1"
        assert canonical("10.0.0.1") == "10.0.0.1"
        assert canonical("fe80::0001%eth0") == "fe80::1%eth0"

    def test_what_is_no_address_of_one_peer_is_refused(self) -> None:
        """Names, groups, everybody, other types, and spellings that mean different things to different readers."""
        for value in (
            "",
            "localhost",
            "0.0.0.0",  # noqa: S104
            "::",
            "224.0.0.1",
            "ff02::1",
            "010.0.0.1",
            "1" * 50,
            b"::1",
            1,
            None,
        ):
            assert canonical(value) is None
            assert not is_address(value)
            assert parse_contact([NODE_ID, value, 1]) is None
        for row in (None, [], [NODE_ID, "::1"], [b"", "::1", 1], [NODE_ID, "::1", 0], [NODE_ID, "::1", True]):
            assert parse_contact(row) is None


class OnIPv6(TestCase):
    """Over real sockets on the loopback interface."""

    timeout = 20

    async def test_a_bootstrap_peer_is_reached_by_any_spelling_of_its_address(self) -> None:
        """Its answers counted as forged: they come from the shortest one."""
        first = Server(rng=random.Random(1))
        first.listen(0, "::1")
        self.addCleanup(first.stop)
        assert first.address is not None
        for spelled in ("::1", "0:0:0:0:0:0:0:1", "::0001"):
            server = Server(rng=random.Random(spelled))
            server.listen(0, "::1")
            self.addCleanup(server.stop)
            assert await server.bootstrap([(spelled, first.address[1])]) == [first.address]
            assert server.contact_count
            assert not server.protocol.stats.dropped["forged"]

    def test_what_is_no_address_is_refused_at_once(self) -> None:
        """With an error that names it."""
        server = Server()
        for address in (("localhost", 1), ("::1", 0), ("::1", 65536)):
            error = self.assertRaises(BootstrapError, server.bootstrap, [address])
            assert address[0] in str(error)
