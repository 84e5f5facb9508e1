"""A real testbed of three peers, shared by the whole session, with a state folder and addresses of its own."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from driving import PLACES, ROOT, Testbed

from scenarios.testbed import lifecycle
from scenarios.testbed.state import Current, StateFolder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def _deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    scratch = tmp_path_factory.mktemp("testbed")
    testbed = Testbed(StateFolder(scratch / "state"))
    # A copy: a person who edits the node while the tests run would have its peers restarted.
    shutil.copytree(ROOT / "node", scratch / "node", ignore=shutil.ignore_patterns("__pycache__", "_trial_temp*"))
    testbed.folder.write(Current({}, {"kademlia_source": str(scratch / "node")}, complete=False))
    done = testbed.fab("testbed.up", "--peers=3", *PLACES)
    try:
        assert done.returncode == 0, done.stderr
        yield testbed
    finally:
        lifecycle.down(testbed.folder)


@pytest.fixture
def testbed(_deployed: Testbed) -> Testbed:
    """Three peers that have joined, whatever the test before did to them."""
    _deployed.healed()
    return _deployed


@pytest.fixture
def bare(_deployed: Testbed, tmp_path: Path) -> Iterator[Testbed]:
    """Return a folder without peers; a testbed in it uses the shared virtual environment, which saves seconds."""
    other = Testbed(StateFolder(tmp_path / "state"))
    shared = _deployed.folder.read()
    assert shared is not None
    variables = {**shared.variables, "kademlia_venv": str(_deployed.folder.venv)}
    settings = {"peers": 1, "first_address": "127.0.41.10", "udp_port": 18668, "http_port": 18280}
    other.folder.write(Current(settings, variables, complete=False))
    yield other
    lifecycle.down(other.folder)
