"""The testbed: which peers are current, what keeps them alive, and who is using them.

`current()` and `held()` are all that scenarios need of it; what a provider can do stands in `model`.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scenarios.testbed.model import Provider

# The imports stand inside the functions because the dynamic inventory imports this package, too, perhaps with the
# system's Python, which knows nothing of supervisor.


def current() -> Provider:
    """Return the provider of the current testbed; raises `NoTestbed` or `TestbedError` with what to do."""
    from scenarios.testbed import providers  # noqa: PLC0415

    return providers.current()


@contextmanager
def held() -> Iterator[None]:
    """Hold the current testbed against every other run; raises `TestbedBusy` naming the owner, or `NoTestbed`."""
    from scenarios.testbed import lock, providers  # noqa: PLC0415

    with lock.hold(providers.current_folder()):
        yield
