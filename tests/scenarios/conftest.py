"""Fixtures of the engine's tests: a fake cluster, and histories written by hand."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# The package is run from the checkout and not installed; plain `pytest` does not put the root on the path.
ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from fake import FakeCluster  # noqa: E402 - needs the path above

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    """Five healthy peers with k = 3."""
    with FakeCluster() as fake:
        yield fake
