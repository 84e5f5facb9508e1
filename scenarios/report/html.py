"""`report.html`: one file, no script, nothing from elsewhere; pictures are drawn when it is written."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from scenarios.checks.replication import repair_periods
from scenarios.history.timeline import Timeline
from scenarios.report import gantt, plots
from scenarios.report.series import bins
from scenarios.report.svg import Frame
from scenarios.report.text import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jinja2 import Template

    from scenarios.checks import Result
    from scenarios.history import History
    from scenarios.report.summary import Summary

#: (class, width of the picture, left edge of the plots, height of a plot): a desk and a phone
_LAYOUTS = (("wide", 1040, 64, 132), ("narrow", 372, 52, 118))
#: what stands where there is no figure
NONE = "\u2013"
_RANK = {"invalid": 0, "unknown": 1, "valid": 2}
_TITLES = {"valid": "The data survived", "invalid": "The data did not survive", "unknown": "No verdict"}


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["visible"] = visible
    environment.filters["spoken"] = _spoken
    return environment.get_template("report.html.j2")


def render(history: History, summary: Summary, results: Sequence[Result]) -> str:
    """Return the page for a history; works for any history that can be read, however short."""
    timeline = Timeline(history)
    return _template().render(
        summary=summary,
        title=_title(summary),
        history=history,
        checks=sorted(results, key=lambda result: _RANK[result.verdict]),
        figures=_figures(history, timeline),
        numbers=_numbers(history, summary),
        peers=_peers(history, timeline),
        bands=plots.COPY_BANDS,
        states=[
            state
            for state in ("up", "starting", "killed", "stopped", "paused", "wiped")
            if any(span.state == state for spans in timeline.spans.values() for span in spans)
        ],
        torn=history.torn,
    )


def _spoken(value: object, name: str = "") -> str:
    """Return the value of an option as a person would write it."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    unit = " s" if name in {"duration", "timeout", "settle"} else " bytes" if name == "value-size" else ""
    return f"{value:g}{unit}" if isinstance(value, float) else f"{value}{unit}"


def _title(summary: Summary) -> str:
    if not summary["finished"]:
        return "Not finished"
    # An invalid run need not have lost data: say what was not kept.
    broken = [check["check"] for check in summary["checks"] if check["verdict"] == "invalid"]
    if summary["verdict"] == "invalid" and "durability" not in broken:
        return f"{' and '.join(broken).capitalize()} not kept"
    return _TITLES[summary["verdict"]]


def _figures(history: History, timeline: Timeline) -> list[dict[str, Any]]:
    """Return every plot in both layouts."""
    seconds = max(history.end, 1.0)
    made = bins(history)
    figures: list[dict[str, Any]] = []
    for layout, pixels, left, height in _LAYOUTS:
        frame = Frame(pixels, height, seconds, left)
        figures.append(
            {
                "layout": layout,
                "phases": plots.phase_strip(history, Frame(pixels, 22, seconds, left)),
                "load": plots.load_plot(made, timeline, frame),
                "latency": plots.latency_plot(made, timeline, frame),
                "peers": plots.peers_plot(timeline, Frame(pixels, 92, seconds, left)),
                "copies": plots.copies_plot(history, timeline, frame),
                "gantt": gantt.gantt(history, timeline, gantt.gantt_frame(timeline, pixels, seconds, left)),
            }
        )
    return figures


def _numbers(history: History, summary: Summary) -> list[tuple[str, str]]:
    """Return the figures that stand large under the verdict."""
    get = summary["operations"]["get"]
    put = summary["operations"]["put"]
    acknowledged = len(history.acknowledged())
    kept = {op.key for op in history.ops if op.phase == "verify" and op.outcome == "ok"}
    repairs = [end - begin for begin, end in repair_periods(history.censuses) if end is not None]
    numbers = [
        ("keys acknowledged", f"{acknowledged:,}"),
        ("read back afterwards", f"{len(kept):,}" if any(op.phase == "verify" for op in history.ops) else NONE),
        ("operations", f"{get['total'] + put['total']:,}"),
        ("get, 99th percentile", NONE if get["p99_ms"] is None else f"{get['p99_ms']:,.0f} ms"),
        ("longest repair", f"{max(repairs):,.1f} s" if repairs else NONE),
        ("faults injected", f"{sum(summary['faults'].values()):,}"),
    ]
    return [(name, value.replace(",", "\u202f")) for name, value in numbers]


def _peers(history: History, timeline: Timeline) -> list[dict[str, Any]]:
    """Return a row for each peer of the topology."""
    rows = []
    ops: dict[str, list[int]] = {}
    for op in history.ops:
        count = ops.setdefault(op.peer, [0, 0])
        count[0] += 1
        count[1] += op.outcome != "ok"
    nodes = history.facts.get("nodes", {})
    for peer in history.header["topology"]["peers"]:
        name = peer["name"]
        spans = timeline.spans.get(name, [])
        total, bad = ops.get(name, [0, 0])
        rows.append(
            {
                "name": name,
                "address": f"{peer['address']}:{peer['http_port']}",
                "id": nodes.get(name, ""),
                "operations": total,
                "bad": bad,
                "faults": sum(1 for span in spans if span.state not in {"up", "starting"}),
                "away": sum(span.end - span.start for span in spans if span.state != "up"),
            }
        )
    return rows
