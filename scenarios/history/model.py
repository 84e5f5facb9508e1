"""What a history says, as plain values.  All times are seconds since the run began, on a monotonic clock.

`docs/results.md` documents the same records as they stand in `history.jsonl`; `VERSION` counts their changes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

#: raised when a record changes its meaning or loses a field; readers refuse a newer one
VERSION = 1


@dataclass(slots=True)
class Op:
    """One operation of a client.

    `outcome` is "ok" (it took effect, and a get returned the right bytes), "fail" (it had no effect, or a get
    returned no right value), "unknown" (a put that may or may not have taken effect).
    """

    id: int
    kind: str
    key: str
    peer: str
    phase: str
    #: the moment at which the open loop meant to start it: latency counts from here
    intended: float
    start: float
    end: float
    outcome: str
    #: sequence number of the value of this key
    seq: int = 0
    status: int = 0
    detail: str = ""
    replicas: int | None = None
    hops: int | None = None
    #: a get that was answered with bytes that are not this key's value
    wrong: bool = False
    #: line of history.jsonl, counted from 1; 0 for a value that was not read from a file
    line: int = 0

    @property
    def latency(self) -> float:
        """Seconds from the intended start to the end."""
        return self.end - self.intended


@dataclass(slots=True)
class Fault:
    """One fault injected into, or healed on, one peer."""

    fault: str
    action: str
    peer: str
    start: float
    end: float
    ok: bool = True
    detail: str = ""
    line: int = 0


@dataclass(slots=True)
class PeerState:
    """From `t` on, the peer is believed to be in this state ("up", "starting", or what a fault made of it)."""

    t: float
    peer: str
    state: str
    line: int = 0


@dataclass(slots=True)
class Mark:
    """A phase began ("begin"), ended ("end") or failed ("fail")."""

    t: float
    phase: str
    what: str
    detail: str = ""
    line: int = 0


@dataclass(slots=True)
class Census:
    """One crawl of what every live peer holds.

    `placed[n]` counts the acknowledged keys of which n of the `wanted` closest live peers hold a copy, and
    `copies[n]` those with n holders anywhere.  The last census of a run names every holder in `holders`.
    """

    start: float
    end: float
    #: node ID (40 hex digits) of every peer that answered, by name
    nodes: dict[str, str]
    #: peers that should have answered and did not
    silent: list[str]
    keys: int
    ksize: int
    placed: list[int]
    copies: list[int]
    #: some of the keys with fewer than the wanted holders, worst first
    worst: list[str] = field(default_factory=list)
    #: key -> names of its holders; None in all but full records
    holders: dict[str, list[str]] | None = None
    #: key -> names of the peers whose copy is not what was written; they are no holders.  In full records only
    wrong: dict[str, list[str]] = field(default_factory=dict)
    line: int = 0

    @property
    def wanted(self) -> int:
        """How many of the closest live peers should hold each key."""
        return min(self.ksize, len(self.nodes))

    @property
    def complete(self) -> bool:
        """Whether every peer that should have answered did."""
        return not self.silent

    @property
    def deficient(self) -> int:
        """Keys that one or more of their closest live peers do not hold."""
        return self.keys - (self.placed[self.wanted] if self.wanted < len(self.placed) else 0)

    @property
    def homeless(self) -> int:
        """Keys that no peer that answered holds."""
        return self.copies[0] if self.copies else 0


@dataclass(slots=True)
class History:
    """Everything that a stored run says about itself."""

    header: dict[str, Any]
    ops: list[Op] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    states: list[PeerState] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    censuses: list[Census] = field(default_factory=list)
    #: starts that the client could not make: when the first of them was due, and how many
    missed: list[tuple[float, int]] = field(default_factory=list)
    notes: list[tuple[float, str]] = field(default_factory=list)
    #: what the peers said of themselves before the run
    facts: dict[str, Any] = field(default_factory=dict)
    #: the last line was cut off in writing: the run was killed, or is still going on
    torn: bool = False

    @property
    def end(self) -> float:
        """The latest moment that the history knows."""
        return max(
            max((op.end for op in self.ops), default=0.0),
            max((fault.end for fault in self.faults), default=0.0),
            max((census.end for census in self.censuses), default=0.0),
            max((mark.t for mark in self.marks), default=0.0),
            max((state.t for state in self.states), default=0.0),
        )

    @property
    def missed_total(self) -> int:
        """How many starts were not made."""
        return sum(count for _, count in self.missed)

    def acknowledged(self) -> dict[str, Op]:
        """Return, by key, the first put that was acknowledged."""
        puts: dict[str, Op] = {}
        for op in self.ops:
            if op.kind == "put" and op.outcome == "ok":
                puts.setdefault(op.key, op)
        return puts

    def span(self, phase: str) -> tuple[float, float] | None:
        """Return beginning and end of a phase (the end of the history where it did not end), or None."""
        begin = next((mark.t for mark in self.marks if mark.phase == phase and mark.what == "begin"), None)
        if begin is None:
            return None
        end = next((mark.t for mark in self.marks if mark.phase == phase and mark.what != "begin"), self.end)
        return begin, end
