"""The interface of a check, its result, and the check that checks nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scenarios.history import History

VALID = "valid"
INVALID = "invalid"
UNKNOWN = "unknown"

#: a result names at most this many pieces of evidence, and says how many there are
MOST_EVIDENCE = 50


@dataclass(frozen=True, slots=True)
class Evidence:
    """One piece of evidence: a sentence, and where it comes from."""

    text: str
    key: str = ""
    peer: str = ""
    #: moment in the run, seconds
    t: float | None = None
    #: line of history.jsonl, counted from 1
    line: int = 0


@dataclass(slots=True)
class Result:
    """What a check found."""

    check: str
    verdict: str
    #: one sentence that says why
    headline: str
    #: measured figures: (what, value with unit)
    facts: list[tuple[str, str]] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)
    evidence_total: int = 0

    def add(self, evidence: Evidence) -> None:
        """Count a piece of evidence, and keep it while there is room."""
        self.evidence_total += 1
        if len(self.evidence) < MOST_EVIDENCE:
            self.evidence.append(evidence)


class Check(Protocol):
    """Judges a history."""

    name: str

    def judge(self, history: History) -> Result:
        """Return verdict and evidence; reads the history and nothing else."""
        ...


class NoCheck:
    """Finds everything valid; the engine tests itself with it."""

    name = "none"

    def judge(self, history: History) -> Result:
        """Return valid."""
        return Result(self.name, VALID, "nothing was asked")


def overall(results: Iterable[Result]) -> str:
    """Return invalid if any result is, else unknown if any is or there is none, else valid."""
    verdicts = {result.verdict for result in results}
    if INVALID in verdicts:
        return INVALID
    return VALID if verdicts == {VALID} else UNKNOWN


def some(names: Iterable[str], most: int = 5) -> str:
    """Return the first few names, and how many more there are."""
    listed = list(names)
    rest = len(listed) - most
    return ", ".join(listed[:most]) + (f" and {rest} more" if rest > 0 else "")


def percent(fraction: float) -> str:
    """Return a percentage that is never rounded up to 100 %."""
    return (
        f"{fraction:.0%}".replace("%", " %") if fraction in {0.0, 1.0} else f"{min(fraction * 100, 99.99):.4g} %"
    )
