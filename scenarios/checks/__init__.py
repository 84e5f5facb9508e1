"""Checks: each judges a history, and gives its verdict with the evidence for it.

A check never asks the network: what it needs was written to the history by the workload and the probes.  The
same history therefore always gets the same verdict, also long after the network is gone.
"""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

from scenarios.checks.availability import Availability
from scenarios.checks.base import INVALID, UNKNOWN, VALID, Check, Evidence, NoCheck, Result, overall
from scenarios.checks.durability import Durability
from scenarios.checks.replication import Replication

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from scenarios.history import History

#: every check by name
CHECKS: Mapping[str, Check] = {check.name: check for check in (Durability(), Availability(), Replication())}


def judge(checks: Iterable[Check], history: History) -> list[Result]:
    """Return the result of every check; one that raises is unknown, with its traceback as evidence."""
    results = []
    for check in checks:
        try:
            result = check.judge(history)
        except Exception as error:
            text = traceback.format_exc(limit=-8)
            headline = f"the check itself failed: {type(error).__name__}: {error}"
            result = Result(check.name, UNKNOWN, headline, evidence=[Evidence(text)], evidence_total=1)
        results.append(result)
    return results


__all__ = [
    "CHECKS",
    "INVALID",
    "UNKNOWN",
    "VALID",
    "Availability",
    "Check",
    "Durability",
    "Evidence",
    "NoCheck",
    "Replication",
    "Result",
    "judge",
    "overall",
]
