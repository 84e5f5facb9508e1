"""The figures by name, what ours must reach, and the Markdown table of a run."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class Figure(NamedTuple):
    """A row of the table."""

    name: str
    label: str
    #: what ours must reach, in words and as a rule on the medians of ours and of kademlia
    goal: str = ""
    reached: Callable[[float, float], bool] | None = None

    @property
    def relative(self) -> bool:
        """Tell whether the goal depends on kademlia's figure."""
        return "×" in self.goal


FIGURES = (
    Figure("set_cpu_ms", "set, sequential: CPU per op, ms", "≤ 1/6 ×", lambda ours, stock: ours <= stock / 6),
    Figure("sets_per_s", "set, 50 at once: per s", "≥ 6 ×", lambda ours, stock: ours >= stock * 6),
    Figure("get_p50_ms", "get of a remote key, sequential: p50, ms", "≤ 1 ×", lambda ours, stock: ours <= stock),
    Figure("get_p99_ms", "get of a remote key, sequential: p99, ms", "≤ 1 ×", lambda ours, stock: ours <= stock),
    Figure("misses_per_s", "get of a missing key: per s", "≥ 5 ×", lambda ours, stock: ours >= stock * 5),
    Figure("wrong", "wrong answers and refused sets so far", "0", lambda ours, _: ours == 0),
    Figure("dead_get_p50_ms", "30 % killed: get, sequential: p50, ms", "≤ 5", lambda ours, _: ours <= 5),
    Figure("dead_get_p99_ms", "30 % killed: get, sequential: p99, ms", "≤ 250", lambda ours, _: ours <= 250),
    Figure("dead_gets_p99_ms", "30 % killed: get, 50 at once: p99, ms", "≤ 500", lambda ours, _: ours <= 500),
    Figure("dead_sets_p95_ms", "30 % killed: set, 50 at once: p95, ms", "≤ 1000", lambda ours, _: ours <= 1000),
    Figure("dead_lost", "30 % killed: values lost", "0", lambda ours, _: ours == 0),
    Figure("dead_refused", "30 % killed: sets refused", "0", lambda ours, _: ours == 0),
    Figure("rpcs_per_s", "RPC round trips, 64 in flight: per s ¹", "≥ 4 ×", lambda ours, stock: ours >= stock * 4),
    Figure("rpc_cpu_us", "RPC round trip: CPU, µs ¹"),
    Figure("blocked_ms", "loop blocked by a new contact, 50,000 keys: ms", "≤ 5", lambda ours, _: ours <= 5),
    Figure("twist_mib", "idle `twist kademlia` with webserver: MiB", "≤ 45", lambda ours, _: ours <= 45),
    Figure("process_mib", "process with one peer and no webserver: MiB"),
    Figure("peer_kib", "one more peer in the process: KiB", "≤ 150", lambda ours, _: ours <= 150),
)
COLUMNS = {"kademlia": "kademlia 2.2.3", "opendht": "opendht 4.4.2", "ours": "ours"}


def number(value: float) -> str:
    """Return a figure with no more digits than it deserves."""
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def cell(values: Sequence[float]) -> str:
    """Return the median and the range of some repetitions."""
    if not values:
        return ""
    if min(values) == max(values):
        return number(values[0])
    return f"{number(statistics.median(values))} ({number(min(values))}–{number(max(values))})"  # noqa: RUF001


def row(figure: Figure, results: Mapping[str, Mapping[str, Sequence[float]]]) -> str | None:
    """Return the row of a figure, or None where nobody measured it."""
    values = {name: results.get(name, {}).get(figure.name, []) for name in COLUMNS}
    if not any(values.values()):
        return None
    ratio = verdict = ""
    if values["ours"]:
        ours = statistics.median(values["ours"])
        stock = statistics.median(values["kademlia"]) if values["kademlia"] else None
        if stock:
            ratio = f"{ours / stock:.2g} ×"
        if figure.reached is not None and not (figure.relative and stock is None):
            verdict = "yes" if figure.reached(ours, stock or 0) else "**no**"
    return f"| {figure.label} | {' | '.join(map(cell, values.values()))} | {ratio} | {figure.goal} | {verdict} |"


def render(results: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """Return the Markdown table of a run: medians, and the ranges of the repetitions in brackets."""
    lines = [
        f"| | {' | '.join(COLUMNS.values())} | ours ÷ kademlia | must reach | reached |",
        "|---|" + "---:|" * 4 + "---|---|",
        *filter(None, (row(figure, results) for figure in FIGURES)),
    ]
    echo = results.get("echo")
    if echo:
        lines += [
            "",
            "¹ In our environment, on an asyncio loop; kademlia's column is rpcudp 5.0.1.",
            f"A bare Twisted echo there: {cell(echo['rpcs_per_s'])} per s, {cell(echo['rpc_cpu_us'])} µs.",
        ]
    return "\n".join(lines)
