"""Just enough SVG for plots over the time of a run; colours come from the page's style sheet by class."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from scenarios.report.text import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_STEPS = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200, 86400)


@dataclass(frozen=True, slots=True)
class Frame:
    """Where a plot lies: pixels of its picture, and the seconds that its width stands for."""

    width: int
    height: int
    seconds: float
    left: int
    right: int = 10
    top: int = 8
    bottom: int = 20

    @property
    def floor(self) -> float:
        """Return the pixel of the bottom of the plot."""
        return self.height - self.bottom

    def x(self, seconds: float) -> float:
        """Return the pixel of a moment."""
        span = self.width - self.left - self.right
        return self.left + span * min(1.0, max(0.0, seconds / self.seconds))

    def y(self, fraction: float) -> float:
        """Return the pixel of a height between 0 (bottom) and 1 (top)."""
        return self.floor - (self.floor - self.top) * min(1.0, max(0.0, fraction))


class Picture:
    """Collects shapes; every text is escaped, every number has one decimal."""

    def __init__(self, frame: Frame, label: str) -> None:
        self.frame = frame
        self._label = label
        self._parts: list[str] = []

    def rect(
        self, x0: float, x1: float, y0: float, y1: float, style: str, title: str = "", **more: object
    ) -> None:
        """Draw a rectangle between two corners."""
        self._shape(
            "rect", style, title, x=x0, y=min(y0, y1), width=max(x1 - x0, 0.0), height=abs(y1 - y0), **more
        )

    def line(self, x0: float, y0: float, x1: float, y1: float, style: str, title: str = "") -> None:
        """Draw a straight line."""
        self._shape("line", style, title, x1=x0, y1=y0, x2=x1, y2=y1)

    def path(self, points: Iterable[tuple[float, float] | None], style: str, *, close: bool = False) -> None:
        """Draw a line through points; None interrupts it.  A lone point becomes a dot."""
        commands: list[str] = []
        run: list[tuple[float, float]] = []
        for point in (*points, None):
            if point is not None:
                run.append(point)
                continue
            if len(run) == 1:
                run.append((run[0][0] + 0.1, run[0][1]))
            if run:
                commands.append("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in run) + ("Z" if close else ""))
            run = []
        if commands:
            self._parts.append(f'<path class="{style}" d="{"".join(commands)}"/>')

    def text(self, x: float, y: float, text: str, style: str, title: str = "") -> None:
        """Write a text."""
        hover = f"<title>{escape(visible(title))}</title>" if title else ""
        self._parts.append(f'<text class="{style}" x="{x:.1f}" y="{y:.1f}">{escape(visible(text))}{hover}</text>')

    def _shape(self, tag: str, style: str, title: str, **attributes: object) -> None:
        written = " ".join(
            f'{name.replace("_", "-")}="{value:.1f}"'
            if isinstance(value, float)
            else f'{name.replace("_", "-")}="{escape(str(value))}"'
            for name, value in attributes.items()
        )
        inner = f"><title>{escape(visible(title))}</title></{tag}>" if title else "/>"
        self._parts.append(f'<{tag} class="{style}" {written}{inner}')

    def time_axis(self, *, labels: bool = True) -> None:
        """Draw the seconds along the bottom."""
        frame = self.frame
        step = time_step(frame.seconds, (frame.width - frame.left - frame.right) / 64)
        count = int(frame.seconds / step + 1e-9)
        for index in range(count + 1):
            x = frame.x(index * step)
            self.line(x, frame.top, x, frame.floor, "grid")
            if labels:
                self.text(x, frame.height - 5, clock_text(index * step, step), "tick mid" if index else "tick")

    def value_axis(self, ticks: Sequence[tuple[float, str]]) -> None:
        """Draw labelled lines at heights between 0 and 1."""
        for fraction, label in ticks:
            y = self.frame.y(fraction)
            self.line(self.frame.left, y, self.frame.width - self.frame.right, y, "grid")
            self.text(self.frame.left - 6, y + 3.5, label, "tick end")

    def __html__(self) -> str:
        """Return the element; jinja2 puts it into a page as it is."""
        frame = self.frame
        return (
            f'<svg viewBox="0 0 {frame.width} {frame.height}" role="img" aria-label="{escape(self._label)}">'
            f"{''.join(self._parts)}</svg>"
        )


def time_step(seconds: float, most: float) -> float:
    """Return a step of time that divides a span into at most `most` parts."""
    return next((step for step in _STEPS if seconds / step <= max(most, 2)), seconds)


def clock_text(seconds: float, step: float) -> str:
    """Return a moment as a person reads it on an axis."""
    if step < 1:
        return f"{seconds:.1f}"
    if step < 30:
        return f"{seconds:.0f} s"
    if step < 3600:
        return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
    return f"{seconds / 3600:.0f} h"


def linear(top: float) -> tuple[float, list[tuple[float, str]], Callable[[float], float]]:
    """Return a round top of a linear axis, its ticks, and what turns a value into a height."""
    raw = max(top, 1e-9) / 4
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= raw * 0.999)
    if step < 1:
        step = 1.0
    count = max(1, math.ceil(top / step - 1e-9))
    high = count * step
    return high, [(n / count, f"{n * step:g}") for n in range(count + 1)], lambda value: value / high


def logarithmic(low: float, high: float) -> tuple[list[tuple[float, str]], Callable[[float], float]]:
    """Return ticks of a logarithmic axis over seconds, and what turns a value into a height."""
    bottom, top = math.floor(math.log10(max(low, 1e-4))), math.ceil(math.log10(max(high, 2e-4)))
    if top <= bottom:
        top = bottom + 1
    ticks = [((n - bottom) / (top - bottom), latency_text(10.0**n)) for n in range(bottom, top + 1)]
    return ticks, lambda value: (math.log10(max(value, 1e-9)) - bottom) / (top - bottom)


def latency_text(seconds: float) -> str:
    """Return a latency with the unit that suits it."""
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    return f"{seconds:.3g} s"
