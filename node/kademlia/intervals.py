"""How often a peer does its periodic work."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

from kademlia.errors import ConfigurationError

MINUTE, HOUR = 60.0, 3600.0


@dataclass(frozen=True, slots=True)
class Intervals:
    """Periods of a peer's periodic work, in seconds (paper, sections 2.3 and 2.5)."""

    #: a bucket without a lookup for this long is refreshed
    refresh: float = HOUR
    #: a holder stores its pairs at the k closest again, unless it received them within this time
    replicate: float = HOUR
    #: the original publisher publishes again
    republish: float = 24 * HOUR
    #: a pair that is not republished is forgotten
    expire: float = 24 * HOUR

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and value > 0):
                raise ConfigurationError(
                    f"interval {field.name!r} must be a positive number of seconds, not {value!r}"
                )

    def with_overrides(self, overrides: dict[str, float]) -> Intervals:
        """Return a copy with some periods replaced; raises `ConfigurationError` on an unknown or bad one."""
        known = {field.name for field in fields(self)}
        for name in overrides:
            if name not in known:
                raise ConfigurationError(f"unknown interval {name!r}; there are {', '.join(sorted(known))}")
        return replace(self, **overrides)


#: The same ratios at three speeds: the paper's, minutes for hours, and 10 s for an hour.
PROFILES: dict[str, Intervals] = {
    "paper": Intervals(HOUR, HOUR, 24 * HOUR, 24 * HOUR),
    "lab": Intervals(MINUTE, MINUTE, 24 * MINUTE, 24 * MINUTE),
    "demo": Intervals(10.0, 10.0, 240.0, 240.0),
}
