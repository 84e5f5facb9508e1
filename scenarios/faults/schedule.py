"""Fault schedules as data: which fault, on whom, when.

Targets may depend on what the network looks like at that moment (who holds a key); everything else is fixed
before the run, so that the same seed gives the same schedule.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

INJECT = "inject"
HEAL = "heal"


class Scene(Protocol):
    """What a target may ask while the run is going on."""

    def up(self) -> Sequence[str]:
        """Return the peers that are up."""
        ...

    def down(self) -> dict[str, str]:
        """Return the state of every peer that is not up."""
        ...

    async def holders_of(self, key_index: int) -> list[str]:
        """Return the live holders of the n-th acknowledged key, closest to the key first."""
        ...

    async def repaired(self, limit: float) -> float | None:
        """Wait until every key that has a holder is on all of its closest live peers.

        Return the seconds it took, or None when `limit` seconds were not enough.
        """
        ...


class Target(Protocol):
    """On whom a step works."""

    async def peers(self, scene: Scene) -> list[str]:
        """Return names of peers, those of the topology's order or the closest first."""
        ...


@dataclass(frozen=True, slots=True)
class Named:
    """These peers."""

    names: tuple[str, ...]

    async def peers(self, scene: Scene) -> list[str]:
        """Return the names as given."""
        return list(self.names)


@dataclass(frozen=True, slots=True)
class HoldersOf:
    """The live holders of one acknowledged key: the `count` closest of them, or all but the `spare` farthest.

    `min_live` peers of the network are always left up; 0 allows the whole network to go.
    """

    key_index: int
    count: int | None = None
    spare: int = 0
    min_live: int = 1

    async def peers(self, scene: Scene) -> list[str]:
        """Ask the network who holds the key now."""
        holders = await scene.holders_of(self.key_index)
        most = len(holders) - self.spare if self.count is None else self.count
        return holders[: max(0, min(most, len(scene.up()) - self.min_live))]


@dataclass(frozen=True, slots=True)
class Everyone:
    """Every peer that a fault is active on."""

    async def peers(self, scene: Scene) -> list[str]:
        """Return the peers that are neither up nor starting."""
        return [name for name, state in scene.down().items() if state != "starting"]


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do to the network."""

    action: str
    fault: str
    target: Target
    #: not before this many seconds after the workload began
    at: float = 0.0
    #: before it, wait at most this many seconds for the network to repair itself; 0: do not wait
    repair_limit: float = 0.0

    def as_data(self) -> dict[str, Any]:
        """Return plain values for the results."""
        return {**asdict(self), "target": {"kind": type(self.target).__name__, **asdict(self.target)}}  # type: ignore[call-overload]


def schedule_end(steps: Sequence[Step]) -> float:
    """Return the seconds after which the last step begins at the latest, waits for repair included."""
    latest = 0.0
    for step in steps:
        latest = max(latest + step.repair_limit, step.at)
    return latest
