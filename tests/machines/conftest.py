"""Three containers, brought up and deployed once for all tests."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from containers import Containers

if TYPE_CHECKING:
    from collections.abc import Iterator

NEEDED = ("vagrant", "lxc-create", "mmdebstrap", "ip", "sudo", "curl")


@pytest.fixture(scope="session")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    """Return a checkout in a closed namespace, with the box known to Vagrant."""
    if os.geteuid() != 0:
        pytest.fail("these tests need root")
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        pytest.fail(f"{', '.join(missing)} missing: run provisioning/box/install-requirements")
    made = Containers(tmp_path_factory.mktemp("containers"))
    try:
        made.prepare()
        yield made
    finally:
        made.close()


@pytest.fixture(scope="session")
def machines(closed: Containers) -> Containers:
    """Return three machines that `vagrant up` made and deployed."""
    closed.ok("vagrant", "up", "--provider=lxc", timeout=400)
    return closed
