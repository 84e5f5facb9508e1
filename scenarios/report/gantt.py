"""The life of every peer, and the operations that failed on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scenarios.report.svg import Frame, Picture

if TYPE_CHECKING:
    from scenarios.history import History
    from scenarios.history.model import Op
    from scenarios.history.timeline import Timeline

ROW = 20
_STYLES = frozenset({"up", "starting", "killed", "stopped", "paused", "wiped"})


def gantt_frame(timeline: Timeline, width: int, seconds: float, left: int) -> Frame:
    """Return a frame with a row for every peer."""
    return Frame(width, 8 + ROW * max(1, len(timeline.spans)) + 22, seconds, left)


def gantt(history: History, timeline: Timeline, frame: Frame) -> Picture:
    """Draw one row a peer: bars of its states, marks of failed operations below them."""
    picture = Picture(frame, "state of every peer over time, with failed operations")
    picture.time_axis()
    room = (frame.left - 8) // 6
    failures = _failures(history, frame)
    for row, (peer, spans) in enumerate(timeline.spans.items()):
        y = frame.top + row * ROW
        name = peer if len(peer) <= room else peer[: room - 1] + "…"
        picture.text(frame.left - 6, y + 12, name, "tick end", peer)
        for span in spans:
            style = span.state if span.state in _STYLES else "killed"
            inset = 3 if span.state == "up" else 5
            picture.rect(
                frame.x(span.start),
                max(frame.x(span.start) + 1.0, frame.x(span.end)),
                y + inset,
                y + 15 - inset + 2,
                f"state {style}",
                f"{peer} {span.state}, {span.start:.1f} s to {span.end:.1f} s",
            )
        for x, ops in failures.get(peer, {}).items():
            first = ops[0]
            more = f" and {len(ops) - 1} more" if len(ops) > 1 else ""
            what = f"{first.kind} of {first.key} on {peer}: {first.outcome} ({first.detail})"
            text = f"{first.intended:.1f} s: {what}{more}"
            picture.rect(float(x), x + 2.0, y + 1, y + 19, "failed", text)
    return picture


def _failures(history: History, frame: Frame) -> dict[str, dict[int, list[Op]]]:
    """Return failed operations by peer and pixel, so that a thousand of them are one mark."""
    failures: dict[str, dict[int, list[Op]]] = {}
    for op in history.ops:
        if op.outcome != "ok":
            failures.setdefault(op.peer, {}).setdefault(int(frame.x(op.intended) / 2) * 2, []).append(op)
    return failures
