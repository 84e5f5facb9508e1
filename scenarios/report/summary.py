"""`summary.json`: what came of a run, for programs; documented in `docs/results.md`."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypedDict

from scenarios.checks import UNKNOWN, overall
from scenarios.report.series import percentile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scenarios.checks import Result
    from scenarios.history import History

SCHEMA = "kademlia-testbed/summary"
VERSION = 1
EXIT_CODES = {"valid": 0, "invalid": 1, "unknown": 2}


class Summary(TypedDict):
    """The content of `summary.json`."""

    schema: str
    version: int
    run: str
    scenario: str
    verdict: str
    exit_code: int
    #: why the verdict is what it is, one sentence
    reason: str
    finished: bool
    #: the phase that the run is in, or was in when it was ended early; "done" when nothing is left to do
    phase: str
    started: str
    seconds: float
    seed: int
    command: str
    options: dict[str, Any]
    topology: dict[str, Any]
    versions: dict[str, str]
    phases: list[dict[str, Any]]
    checks: list[dict[str, Any]]
    operations: dict[str, dict[str, Any]]
    faults: dict[str, int]
    notes: list[dict[str, Any]]


def summarise(history: History, results: Sequence[Result]) -> Summary:
    """Return the summary of a history and of what the checks found in it (nothing, while a run is going on)."""
    header = history.header
    phase, finished, failure = _ending(history)
    if finished and not failure:
        phase = "done" if results or not header["checks"] else "checks"
    if finished and not failure:
        verdict = overall(results)
        decisive = [result for result in results if result.verdict == verdict]
        reason = (
            "; ".join(f"{result.check}: {result.headline}" for result in decisive)
            if verdict != "valid"
            else (f"{len(results)} of {len(results)} checks are valid")
        )
    else:
        verdict = UNKNOWN
        reason = failure.splitlines()[0] if failure else f"the run has not finished; it was in phase {phase}"
    topology = dict(header["topology"])
    return Summary(
        schema=SCHEMA,
        version=VERSION,
        run=header["run"],
        scenario=header["scenario"],
        verdict=verdict,
        exit_code=EXIT_CODES[verdict],
        reason=reason,
        finished=finished,
        phase=phase,
        started=datetime.fromtimestamp(header["wall"], UTC).isoformat(timespec="seconds"),
        seconds=round(history.end, 3),
        seed=header["seed"],
        command=header["command"],
        options=header["options"],
        topology=topology,
        versions=header["versions"],
        phases=_phases(history),
        checks=[
            {**asdict(result), "facts": [{"name": name, "value": value} for name, value in result.facts]}
            for result in results
        ],
        operations=_operations(history),
        faults=dict(Counter(fault.fault for fault in history.faults if fault.action == "inject")),
        notes=[{"t": t, "text": text} for t, text in history.notes],
    )


def _ending(history: History) -> tuple[str, bool, str]:
    """Return the last phase, whether the run came to its end, and the failure that ended it early."""
    phase = "preflight"
    for mark in history.marks:
        if mark.phase == "run":
            return phase, True, mark.detail
        phase = mark.phase
    return phase, False, ""


def _phases(history: History) -> list[dict[str, Any]]:
    phases: list[dict[str, Any]] = []
    for mark in history.marks:
        if mark.phase == "run":
            continue
        if mark.what == "begin":
            phases.append({"phase": mark.phase, "start": mark.t, "end": None, "outcome": "running", "detail": ""})
        elif phases:
            outcome = "done" if mark.what == "end" else "failed"
            phases[-1].update(end=mark.t, outcome=outcome, detail=mark.detail)
    return phases


def _operations(history: History) -> dict[str, dict[str, Any]]:
    """Return counts and latencies (milliseconds, from the intended start) of puts and gets under load."""
    operations: dict[str, dict[str, Any]] = {}
    for kind in ("put", "get"):
        ops = [op for op in history.ops if op.kind == kind and op.phase == "workload"]
        outcomes = Counter(op.outcome for op in ops)
        latencies = sorted(op.latency * 1000 for op in ops if op.outcome == "ok")
        operations[kind] = {
            "total": len(ops),
            **{outcome: outcomes[outcome] for outcome in ("ok", "fail", "unknown")},
            **{f"p{q}_ms": _rounded(percentile(latencies, q / 100)) for q in (50, 95, 99)},
        }
    operations["preload"] = {
        "total": sum(1 for op in history.ops if op.phase == "preload"),
        "ok": sum(1 for op in history.ops if op.phase == "preload" and op.outcome == "ok"),
    }
    operations["missed"] = {"total": history.missed_total}
    return operations


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
