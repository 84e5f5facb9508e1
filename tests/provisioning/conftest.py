"""A deployment by `ansible-playbook` alone, shared by the session, with its own state folder and addresses."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from playing import ROOT, SETTINGS, Deployment

from scenarios.testbed import lifecycle
from scenarios.testbed.state import Current, StateFolder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Return three deployed peers."""
    scratch = tmp_path_factory.mktemp("deployment")
    # A copy: a person who edits the node while the tests run would have its peers restarted.
    shutil.copytree(ROOT / "node", scratch / "node", ignore=shutil.ignore_patterns("__pycache__", "_trial_temp*"))
    made = Deployment(StateFolder(scratch / "state"), scratch / "node")
    made.folder.write(Current(dict(SETTINGS)))
    try:
        run = made.play()
        assert run.status == 0, run.output
        yield made
    finally:
        lifecycle.down(made.folder)


@pytest.fixture
def never(deployment: Deployment, tmp_path: Path) -> Iterator[Deployment]:
    """Return a state folder to which nothing was deployed yet, with the shared virtual environment."""
    made = Deployment(
        StateFolder(tmp_path / "state"), deployment.source, {"kademlia_venv": str(deployment.folder.venv)}
    )
    made.folder.write(Current({**SETTINGS, "peers": 2, "first_address": "127.0.43.10"}))
    yield made
    lifecycle.down(made.folder)
