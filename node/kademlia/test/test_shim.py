"""The fault shim: what is lost, late or cut off, and what is refused."""

from __future__ import annotations

import random
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kademlia.errors import ConfigurationError
from kademlia.shim import MAX_HELD, FaultShim

PEER, OTHER = ("127.0.60.1", 1), ("127.0.60.2", 2)


class Shim(SynchronousTestCase):
    """A shim with a fixed seed, on a clock of the test's own."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.shim = FaultShim(random.Random(1), self.clock)
        self.passed: list[tuple[bytes, Any]] = []

    def pass_on(self, data: bytes, address: Any) -> None:
        self.passed.append((data, address))

    def send(self, count: int = 1, address: tuple[str, int] = PEER) -> int:
        """Send datagrams; returns how many have passed at once."""
        self.passed.clear()
        for _ in range(count):
            self.shim.outgoing(b"data", address, self.pass_on)
        return len(self.passed)

    def test_it_is_inactive_until_something_is_configured(self) -> None:
        """So that it costs one look at a flag."""
        self.assertFalse(self.shim.active)
        self.shim.configure({"loss": 0, "delay": 0.0, "blocked": []})
        self.assertFalse(self.shim.active)
        self.shim.configure({"delay": 0.1})
        self.assertTrue(self.shim.active)

    def test_the_configured_share_is_lost(self) -> None:
        """A tenth of a thousand, give or take; all with 1, and what comes in is not touched."""
        self.shim.configure({"loss": 0.1})
        self.assertTrue(850 < self.send(1000) < 950)
        self.shim.configure({"loss": 1})
        self.assertEqual(self.send(100), 0)
        self.shim.incoming(b"data", PEER, self.pass_on)
        self.assertEqual(self.passed, [(b"data", PEER)])

    def test_datagrams_are_held_back_for_delay_and_jitter(self) -> None:
        """None comes before delay - jitter, all have come by delay + jitter."""
        self.shim.configure({"delay": 0.5, "jitter": 0.1})
        self.assertEqual(self.send(100), 0)
        self.clock.advance(0.39)
        self.assertEqual(len(self.passed), 0)
        self.clock.advance(0.11)
        self.assertTrue(20 < len(self.passed) < 80)
        self.clock.advance(0.11)
        self.assertEqual(len(self.passed), 100)

    def test_blocked_peers_are_cut_off_in_both_directions(self) -> None:
        """The others are not."""
        self.shim.configure({"blocked": ["127.0.60.1:1"]})
        self.assertEqual(self.send(), 0)
        self.shim.incoming(b"data", PEER, self.pass_on)
        self.assertEqual(self.passed, [])
        self.assertEqual(self.send(address=OTHER), 1)
        self.shim.incoming(b"data", OTHER, self.pass_on)
        self.assertEqual(len(self.passed), 2)

    def test_clear_turns_everything_off_and_leaves_no_timer(self) -> None:
        """Datagrams still held back are lost."""
        self.shim.configure({"delay": 1, "loss": 0.1, "blocked": ["[::1]:1"]})
        self.send(10)
        self.shim.clear()
        self.assertFalse(self.shim.active)
        self.assertEqual(self.shim.as_json(), {"loss": 0.0, "delay": 0.0, "jitter": 0.0, "blocked": []})
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_flood_is_not_held_without_bound(self) -> None:
        """Beyond the bound datagrams are lost, as in a router's queue."""
        self.shim.configure({"delay": 1})
        self.send(MAX_HELD + 10)
        self.clock.advance(1)
        self.assertEqual(len(self.passed), MAX_HELD)

    def test_settings_are_reported_in_the_form_they_are_given(self) -> None:
        """What `as_json` returns can be configured again."""
        given = {"loss": 0.25, "delay": 0.5, "jitter": 0.125, "blocked": ["127.0.60.1:1", "[::1]:2"]}
        self.shim.configure(given)
        self.assertEqual(self.shim.as_json(), given)

    def test_impossible_settings_are_refused_and_change_nothing(self) -> None:
        """Each names the fault."""
        self.shim.configure({"loss": 0.5})
        nan = float("nan")
        for bad in (
            {"loss": 1.5}, {"loss": -1}, {"loss": True}, {"loss": "1"}, {"loss": nan}, {"delay": 1e9},
            {"jitter": None}, {"blocked": "127.0.0.1:1"}, {"blocked": [1]}, {"blocked": ["host:1"]}, {"los": 1},
        ):  # fmt: skip
            error = self.assertRaises(ConfigurationError, self.shim.configure, bad)
            self.assertIn(next(iter(bad)), str(error))
        self.assertEqual(self.shim.loss, 0.5)
