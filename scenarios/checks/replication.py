"""Replication: after the network had time to repair, each key is on all of its k closest live peers.

The k closest are computed from every live peer's node ID (Maymounkov and Mazières, 2002, section 2.3); with fewer
than k live peers all of them are meant.  Copies elsewhere (caches, former holders) are neither asked for nor held
against the network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scenarios.checks.base import INVALID, UNKNOWN, VALID, Evidence, Result, some
from scenarios.probes.placement import Placement
from scenarios.workload.keys import key_digest

if TYPE_CHECKING:
    from scenarios.history import History
    from scenarios.history.model import Census


class Replication:
    """Judges the last full census of a run."""

    name = "replication"

    def judge(self, history: History) -> Result:
        """Return invalid when a key lacks a copy where one belongs, unknown when not every peer was asked."""
        census = next((c for c in reversed(history.censuses) if c.holders is not None), None)
        if census is None or census.holders is None:
            return Result(self.name, UNKNOWN, "the peers were not asked what they hold: the run ended before that")
        promised = history.acknowledged()
        keys = [key for key in promised if key in census.holders]
        if not keys:
            return Result(self.name, UNKNOWN, "no key was acknowledged: there is nothing to judge")
        placement = Placement(keys, census.holders, census.nodes, census.ksize)
        result = Result(
            self.name, VALID, f"all {len(keys)} keys are on their {placement.wanted} closest live peers"
        )
        copies = sum(n * count for n, count in enumerate(placement.copies)) / len(keys)
        periods = repair_periods(history.censuses)
        result.facts = [
            ("keys", str(len(keys))),
            ("copies wanted", f"{placement.wanted} (k = {census.ksize}, {len(census.nodes)} live peers)"),
            ("copies found, mean", f"{copies:.2f}"),
            ("keys short of a copy", str(len(placement.missing) - len(placement.homeless))),
            ("keys without any copy", str(len(placement.homeless))),
            ("time to repair", _spoken(periods)),
        ]
        homeless = set(placement.homeless)
        for key, lacking in sorted(placement.missing.items(), key=lambda item: item[0] not in homeless):
            held = census.holders[key]
            text = (
                f"{'no live peer holds it' if key in homeless else f'held by {some(held)}'}; missing on "
                f"{some(lacking)}; digest {key_digest(key)}"
            )
            result.add(Evidence(text, key, lacking[0], census.end, census.line))
        short = [key for key in placement.missing if key not in homeless]
        if placement.missing:
            result.verdict = INVALID
            parts = []
            if homeless:
                parts.append(f"{len(homeless)} of {len(keys)} keys have no copy left: {some(placement.homeless)}")
            if short:
                parts.append(
                    f"{len(short)} of {len(keys)} keys are not on all of their {placement.wanted} closest "
                    f"live peers: {some(short)}"
                )
            result.headline = "; ".join(parts)
        if census.silent:
            result.verdict = UNKNOWN
            result.headline = (
                f"not every peer answered ({some(census.silent)} did not): what they hold is not known"
            )
        elif result.verdict == VALID and len(keys) < len(promised):
            result.verdict = UNKNOWN
            result.headline = f"{len(promised) - len(keys)} keys were acknowledged after the last census"
        return result


def repair_periods(censuses: list[Census]) -> list[tuple[float, float | None]]:
    """Return the spans in which keys lacked copies: from the census that saw it to the one that no longer did."""
    periods: list[tuple[float, float | None]] = []
    since: float | None = None
    for census in censuses:
        short = census.deficient > census.homeless
        if short and since is None:
            since = census.end
        elif not short and since is not None:
            periods.append((since, census.end))
            since = None
    if since is not None:
        periods.append((since, None))
    return periods


def _spoken(periods: list[tuple[float, float | None]]) -> str:
    if not periods:
        return "no census found a key short of a copy"
    closed = [end - begin for begin, end in periods if end is not None]
    text = f"{max(closed):.1f} s at most, {len(closed)} times" if closed else "nothing was repaired"
    if periods[-1][1] is None:
        text += f"; not repaired since {periods[-1][0]:.1f} s"
    return text
