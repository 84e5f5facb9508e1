"""Writes `history.jsonl`: append only, one line a record, every line handed to the kernel at once.

A controller that is killed loses at most the line it was writing; what it wrote before survives it, because
the kernel has it.  (A power cut of the controller may lose more: a history is evidence, not a database.)
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from scenarios.errors import HistoryError
from scenarios.history.model import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import TracebackType

    from scenarios.history.model import Census, Fault, Op

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True).encode


class HistoryWriter:
    """Appends records; used from the event loop only.

    A disk that takes no more ends the history at that line: `failed` is told once, with a sentence, and what comes
    later is dropped, so that nobody who has the network to heal stumbles over it.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path = path
        self.failure = ""
        self.failed: Callable[[str], None] = lambda _sentence: None
        self._file = path.open("x", encoding="ascii", buffering=1, newline="\n")
        self._write({"r": "header", "version": VERSION, **header})
        if self.failure:
            raise HistoryError(self.failure)

    def __enter__(self) -> HistoryWriter:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; records that arrive later are dropped."""
        with contextlib.suppress(OSError):  # what could not be written was told when it could not
            self._file.close()

    def _write(self, record: dict[str, Any]) -> None:
        if self.failure or self._file.closed:
            return
        try:
            self._file.write(_encode(record) + "\n")
        except OSError as error:
            self.failure = f"cannot write {self.path}: {error.strerror}"
            self.close()
            self.failed(self.failure)

    def invoked(self, op_id: int, key: str, seq: int, peer: str, start: float) -> None:
        """Record that a put is about to be sent: if its end is never recorded, it may have taken effect."""
        self._write({"r": "put", "id": op_id, "key": key, "seq": seq, "peer": peer, "s": round(start, 6)})

    def op(self, op: Op) -> None:
        """Record a finished operation."""
        record: dict[str, Any] = {
            "r": "op",
            "id": op.id,
            "op": op.kind,
            "key": op.key,
            "seq": op.seq,
            "peer": op.peer,
            "ph": op.phase,
            "t": round(op.intended, 6),
            "s": round(op.start, 6),
            "e": round(op.end, 6),
            "out": op.outcome,
            "st": op.status,
        }
        if op.detail:
            record["why"] = op.detail
        if op.replicas is not None:
            record["rep"] = op.replicas
        if op.hops is not None:
            record["hops"] = op.hops
        if op.wrong:
            record["wrong"] = True
        self._write(record)

    def missed(self, intended: float, count: int = 1) -> None:
        """Record starts, from this one on, that were not made: too many operations in flight, or no peer up."""
        self._write({"r": "missed", "t": round(intended, 6), "n": count})

    def fault(self, fault: Fault) -> None:
        """Record a fault injected or healed."""
        self._write(
            {
                "r": "fault",
                "fault": fault.fault,
                "do": fault.action,
                "peer": fault.peer,
                "s": round(fault.start, 6),
                "e": round(fault.end, 6),
                "ok": fault.ok,
                "why": fault.detail,
            }
        )

    def state(self, t: float, peer: str, state: str) -> None:
        """Record what a peer is believed to be from now on."""
        self._write({"r": "peer", "t": round(t, 6), "peer": peer, "state": state})

    def mark(self, t: float, phase: str, what: str, detail: str = "") -> None:
        """Record that a phase begins, ends or fails."""
        self._write({"r": "phase", "t": round(t, 6), "phase": phase, "what": what, "why": detail})

    def note(self, t: float, text: str) -> None:
        """Record a remark for the reader of the report."""
        self._write({"r": "note", "t": round(t, 6), "text": text})

    def facts(self, facts: Mapping[str, Any]) -> None:
        """Record what the peers said of themselves before the run touched them."""
        self._write({"r": "facts", **facts})

    def census(self, census: Census) -> None:
        """Record a crawl of what the peers hold."""
        record: dict[str, Any] = {
            "r": "census",
            "s": round(census.start, 6),
            "e": round(census.end, 6),
            "nodes": census.nodes,
            "silent": census.silent,
            "keys": census.keys,
            "k": census.ksize,
            "placed": census.placed,
            "copies": census.copies,
            "worst": census.worst,
        }
        if census.holders is not None:
            record["holders"] = census.holders
        if census.wrong:
            record["wrong"] = census.wrong
        self._write(record)
