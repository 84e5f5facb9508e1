"""Durability: every acknowledged value can be read, as it was written, after all peers are back.

An acknowledgement is a promise.  The check reads each acknowledged key through peers other than the one that
gave it, again and again until the settle window is over; a key that then was never returned is lost.  Wrong
bytes, in an answer at any moment of the run or in a peer's store at its end, are corruption.  Puts that were not
acknowledged promise nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scenarios.checks.base import INVALID, UNKNOWN, VALID, Evidence, Result, some
from scenarios.workload.keys import key_digest

if TYPE_CHECKING:
    from scenarios.history import History, Op
    from scenarios.history.model import Census


class Durability:
    """Judges whether acknowledged values were kept."""

    name = "durability"

    def judge(self, history: History) -> Result:
        """Return invalid when a value was lost or changed, unknown when some were never asked for."""
        promised = history.acknowledged()
        reads: dict[str, list[Op]] = {}
        corrupt = [op for op in history.ops if op.kind == "get" and op.wrong]
        for op in history.ops:
            if op.kind == "get" and op.phase == "verify":
                reads.setdefault(op.key, []).append(op)
        kept = {op.key for ops in reads.values() for op in ops if op.outcome == "ok"}
        lost = [key for key in promised if key in reads and key not in kept]
        unread = [key for key in promised if key not in reads]
        late = sum(1 for ops in reads.values() if len(ops) > 1 and ops[-1].outcome == "ok")
        census = next((c for c in reversed(history.censuses) if c.holders is not None), None)
        spoilt = census.wrong if census is not None else {}
        result = Result(self.name, VALID, f"all {len(promised)} acknowledged keys were read back")
        result.facts = [
            ("acknowledged keys", str(len(promised))),
            ("read back", str(len(promised) - len(lost) - len(unread))),
            ("not at the first attempt", str(late)),
            ("lost", str(len(lost))),
            ("wrong answers", str(len(corrupt))),
            ("copies with wrong bytes", str(sum(map(len, spoilt.values())))),
        ]
        for op in corrupt:
            result.add(Evidence(f"{op.peer} answered with {op.detail}", op.key, op.peer, op.end, op.line))
        for key in lost:
            result.add(_lost(promised[key], reads[key], census.holders if census is not None else None))
        if census is not None:
            for key in spoilt:
                result.add(_spoilt(key, census))
        findings = {
            f"of {len(promised)} acknowledged keys lost": lost,
            "keys answered with wrong bytes": list(dict.fromkeys(op.key for op in corrupt)),
            "keys have copies with wrong bytes": list(spoilt),
        }
        parts = [f"{len(keys)} {what}: {some(keys)}" for what, keys in findings.items() if keys]
        if parts:
            result.verdict, result.headline = INVALID, "; ".join(parts)
        elif not promised:
            result.verdict, result.headline = UNKNOWN, "no put was acknowledged: there is nothing to judge"
        elif unread:
            result.verdict = UNKNOWN
            result.headline = f"{len(unread)} of {len(promised)} acknowledged keys were never read back"
        return result


def _spoilt(key: str, census: Census) -> Evidence:
    names = census.wrong[key]
    text = f"other bytes than were written are stored on {some(names)}; digest {key_digest(key)}"
    return Evidence(text, key, names[0], census.end, census.line)


def _lost(put: Op, reads: list[Op], holders: dict[str, list[str]] | None) -> Evidence:
    last = reads[-1]
    where = "unknown"
    if holders is not None and put.key in holders:
        where = ", ".join(holders[put.key]) or "no peer"
    replicas = "" if put.replicas is None else f" by {put.replicas} replicas"
    text = (
        f"lost: acknowledged{replicas} through {put.peer} at {put.end:.1f} s, then {len(reads)} reads through "
        f"{some(dict.fromkeys(op.peer for op in reads))} failed, the last with {last.detail or last.status}; "
        f"held by {where}; digest {key_digest(put.key)}"
    )
    return Evidence(text, put.key, put.peer, last.end, put.line)
