"""Reads `history.jsonl`, also of a run that is going on or was killed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from scenarios.errors import HistoryError
from scenarios.history.model import VERSION, Census, Fault, History, Mark, Op, PeerState

if TYPE_CHECKING:
    from pathlib import Path


def load(path: Path) -> History:
    """Return the history in a file.

    A last line that was cut off is left out and noted in `torn`.  Raises `HistoryError` when there is no such
    file, when it has no header or a newer one, and when any other line cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise HistoryError(f"cannot read the history {path}: {error.strerror}") from None
    lines = data.split(b"\n")
    torn = lines.pop() != b""
    history: History | None = None
    pending: dict[int, Op] = {}
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            if history is None:
                history = History(header=_header(record, path), torn=torn)
            else:
                _add(history, pending, record, number)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise HistoryError(f"{path}, line {number}: not a history record ({error!r})") from None
    if history is None:
        raise HistoryError(f"{path} is empty: the run ended before it began")
    _close_pending(history, pending)
    return history


def _header(record: dict[str, Any], path: Path) -> dict[str, Any]:
    if record.get("r") != "header":
        raise HistoryError(f"{path} is not a history: its first line is no header")
    if record["version"] > VERSION:
        raise HistoryError(f"{path} has version {record['version']}; this kit reads up to {VERSION}: update it")
    return record


def _close_pending(history: History, pending: dict[int, Op]) -> None:
    """Add the puts whose end was never recorded: they may have taken effect."""
    for op in pending.values():
        op.end = max(op.start, history.end)
        history.ops.append(op)


def _add(history: History, pending: dict[int, Op], record: dict[str, Any], line: int) -> None:
    kind = record["r"]
    if kind == "op":
        pending.pop(record["id"], None)
        history.ops.append(
            Op(
                record["id"],
                record["op"],
                record["key"],
                record["peer"],
                record["ph"],
                record["t"],
                record["s"],
                record["e"],
                record["out"],
                record["seq"],
                record["st"],
                record.get("why", ""),
                record.get("rep"),
                record.get("hops"),
                record.get("wrong", False),
                line,
            )
        )
    elif kind == "put":
        start = record["s"]
        pending[record["id"]] = Op(
            record["id"],
            "put",
            record["key"],
            record["peer"],
            "",
            start,
            start,
            start,
            "unknown",
            record["seq"],
            0,
            "the run ended before its answer",
            line=line,
        )
    elif kind == "missed":
        history.missed.append((record["t"], record.get("n", 1)))
    elif kind == "fault":
        history.faults.append(
            Fault(
                record["fault"],
                record["do"],
                record["peer"],
                record["s"],
                record["e"],
                record["ok"],
                record["why"],
                line,
            )
        )
    elif kind == "peer":
        history.states.append(PeerState(record["t"], record["peer"], record["state"], line))
    elif kind == "phase":
        history.marks.append(Mark(record["t"], record["phase"], record["what"], record["why"], line))
    elif kind == "census":
        history.censuses.append(
            Census(
                record["s"],
                record["e"],
                record["nodes"],
                record["silent"],
                record["keys"],
                record["k"],
                record["placed"],
                record["copies"],
                record["worst"],
                record.get("holders"),
                record.get("wrong", {}),
                line,
            )
        )
    elif kind == "note":
        history.notes.append((record["t"], record["text"]))
    elif kind == "facts":
        history.facts = {name: value for name, value in record.items() if name != "r"}
    # A record of a kind that is not known comes from a later version 1: it is extra, not an error.
