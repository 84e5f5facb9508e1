"""Availability: clients of live peers get what was acknowledged, while the network is being broken.

Judged are the gets of acknowledged keys during the workload, through peers that were up from the beginning to
the end of the operation: that a killed peer answers nobody is the fault itself, not its effect.  Puts, gets cut
off by a fault on their own peer, and starts that the client missed are reported beside.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from scenarios.checks.base import INVALID, UNKNOWN, VALID, Evidence, Result, percent
from scenarios.history.timeline import Timeline

if TYPE_CHECKING:
    from scenarios.history import History, Op

#: seconds over which the worst moment is looked for
WINDOW = 5.0


class Availability:
    """Judges the fraction of gets that succeeded against the run's option `availability`."""

    name = "availability"

    def judge(self, history: History) -> Result:
        """Return valid when the fraction reaches the threshold, unknown when there was no get."""
        threshold = float(history.header["options"]["availability"])
        timeline = Timeline(history)
        judged: list[Op] = []
        puts: Counter[str] = Counter()
        cut_off = 0
        for op in history.ops:
            if op.phase != "workload":
                continue
            if op.kind == "put":
                puts[op.outcome] += 1
            elif not timeline.up_throughout(op.peer, op.start, op.end):
                cut_off += 1
            else:
                judged.append(op)
        good = sum(1 for op in judged if op.outcome == "ok")
        result = Result(self.name, UNKNOWN, "no get was made through a live peer: there is nothing to judge")
        result.facts = [
            ("gets through live peers", f"{good} of {len(judged)} ok"),
            ("threshold", percent(threshold)),
            ("puts", f"{puts['ok']} ok, {puts['fail']} fail, {puts['unknown']} unknown"),
            ("gets cut off by faults", str(cut_off)),
            ("starts missed", str(history.missed_total)),
        ]
        if not judged:
            return result
        fraction = good / len(judged)
        worst, moment = _worst_window(judged)
        result.facts.insert(1, (f"worst {WINDOW:g} s", f"{percent(worst)}, from {moment:.0f} s"))
        result.verdict = VALID if fraction >= threshold else INVALID
        result.headline = (
            f"{percent(fraction)} of {len(judged)} gets through live peers succeeded; "
            f"at least {percent(threshold)} must"
        )
        for op in judged:
            if op.outcome != "ok":
                text = f"get through {op.peer} failed after {op.latency * 1000:.0f} ms: {op.detail or op.status}"
                result.add(Evidence(text, op.key, op.peer, op.intended, op.line))
        return result


def _worst_window(ops: list[Op]) -> tuple[float, float]:
    """Return the lowest fraction of successes in any window of `WINDOW` seconds, and when it began."""
    totals: Counter[int] = Counter()
    good: Counter[int] = Counter()
    for op in ops:
        window = int(op.intended // WINDOW)
        totals[window] += 1
        good[window] += op.outcome == "ok"
    worst = min(totals, key=lambda window: (good[window] / totals[window], window))
    return good[worst] / totals[worst], worst * WINDOW
