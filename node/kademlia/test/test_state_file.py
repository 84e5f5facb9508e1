"""What a peer keeps of itself between two lives, and what it refuses to read."""

from __future__ import annotations

import pickle
import random
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kademlia.errors import (
    ConfigurationError,
    StateFileError,
)
from kademlia.network import Server
from kademlia.test.virtual import Network, home


class StateFile(SynchronousTestCase):
    """Coming back as the same peer."""

    def test_state_is_saved_and_loaded(self) -> None:
        """The same ID, the same parameters, the same neighbours."""
        network = Network()
        server = network.grow(4, ksize=7)[1]
        path = self.mktemp()
        server.saveState(path)
        loaded = Server.loadState(path, reactor=network, wall=network.wall, rng=random.Random(0))
        assert (loaded.id, loaded.ksize, loaded.alpha) == (server.id, 7, 3)

    def test_a_loaded_peer_joins_by_itself_where_a_port_is_given(self) -> None:
        """As the library's `loadState` did."""
        network = Network()
        server = network.grow(4)[1]
        path = self.mktemp()
        server.saveState(path)
        network.kill(server)
        loaded = Server.loadState(path, 8468, home(server)[0], reactor=network, wall=network.wall)
        network.run(1)
        assert loaded.contact_count == 3

    def test_nothing_is_written_while_nobody_is_known(self) -> None:
        """An old file with neighbours is worth more than a new one without."""
        path = self.mktemp()
        Network().server(0).saveState(path)
        assert not Path(path).exists()

    def test_an_old_pickle_is_refused_with_an_explanation(self) -> None:
        """Loading one would run whatever is in it; Python 2 wrote protocol 0 where it was not told otherwise."""
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            path = self.mktemp()
            Path(path).write_bytes(pickle.dumps({"ksize": 20, "alpha": 3, "id": None, "neighbors": []}, protocol))
            error = self.assertRaises(StateFileError, Server.loadState, path)
            # The name of this test is in the path.
            assert "is a pickle, as kademlia 2 wrote it" in str(error).replace(path, ""), protocol

    def test_files_that_are_no_state_are_refused(self) -> None:
        """One error type, whatever is wrong."""
        for content in ("", "{}", "[]", '{"format": "kademlia-state-1"}', "\x00", '{"format": 1}', "[" * 100_000):
            path = self.mktemp()
            Path(path).write_text(content, encoding="utf-8")
            self.assertRaises(StateFileError, Server.loadState, path)
        self.assertRaises(StateFileError, Server.loadState, "/nonexistent/state")

    def test_state_is_saved_regularly_until_the_peer_stops(self) -> None:
        """Every `frequency` seconds."""
        network = Network()
        server = network.grow(2)[0]
        path = Path(self.mktemp())
        server.saveStateRegularly(path, 10)
        path.unlink()
        network.run(10.5)
        assert path.exists()
        network.result(server.stop())
        path.unlink()
        network.run(20)
        assert not path.exists()

    def test_a_peer_saves_its_state_by_one_loop_only(self) -> None:
        """The first of two would have gone on after `stop`, which knows only the last."""
        network = Network()
        server = network.grow(2)[0]
        first, second = Path(self.mktemp()), Path(self.mktemp())
        server.saveStateRegularly(first, 10)
        server.saveStateRegularly(second, 10)
        first.unlink()
        network.run(15)
        assert not first.exists()
        network.result(server.stop())
        second.unlink()
        network.run(20)
        assert not first.exists()
        assert not second.exists()

    def test_state_is_not_saved_at_impossible_frequencies(self) -> None:
        """A frequency of 0 would never give the loop back; what was being saved goes on being saved."""
        network = Network()
        server = network.grow(2)[0]
        path, other = Path(self.mktemp()), Path(self.mktemp())
        server.saveStateRegularly(path, 10)
        bad: list[Any] = [0, -1, float("nan"), float("inf"), True, "10", None]
        for frequency in bad:
            error = self.assertRaises(ConfigurationError, server.saveStateRegularly, other, frequency)
            assert "frequency must be a positive number of seconds" in str(error)
        assert not other.exists()
        path.unlink()
        network.run(10.5)
        assert path.exists()
