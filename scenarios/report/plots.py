"""The plots of a report: load, latency, live peers, copies; all share time axis, left edge and fault bands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scenarios.report.svg import Frame, Picture, latency_text, linear, logarithmic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scenarios.history import History
    from scenarios.history.model import Census
    from scenarios.history.timeline import Timeline
    from scenarios.report.series import Bin

PHASES = ("preflight", "preload", "workload", "heal", "settle")


def fault_bands(picture: Picture, timeline: Timeline) -> None:
    """Shade the time in which peers were away, darker the more of them were."""
    peers = len(timeline.spans)
    steps = timeline.live_count()
    frame = picture.frame
    for index, (moment, live) in enumerate(steps):
        end = steps[index + 1][0] if index + 1 < len(steps) else frame.seconds
        # All peers become "up" one after the other in preflight: that is no fault.
        if live < peers and any(count == peers for _, count in steps[: index + 1]):
            opacity = round(0.08 + 0.30 * (peers - live) / peers, 2)
            picture.rect(frame.x(moment), frame.x(end), frame.top, frame.floor, "fault", fill_opacity=opacity)


def phase_strip(history: History, frame: Frame) -> Picture:
    """Draw the phases along the top of the plots."""
    picture = Picture(frame, "phases of the run")
    for phase in PHASES:
        span = history.span(phase)
        if span is None:
            continue
        x0, x1 = frame.x(span[0]), frame.x(span[1])
        picture.rect(
            x0, max(x0 + 1, x1 - 1), 2, 5, f"phase {phase}", f"{phase}: {span[0]:.1f} s to {span[1]:.1f} s"
        )
        if x1 - x0 > 7 * len(phase):
            picture.text(x0, 18, phase, "phase-name")
    return picture


def load_plot(bins: Sequence[Bin], timeline: Timeline, frame: Frame) -> Picture:
    """Draw operations a second, failures on top."""
    picture = Picture(frame, "operations a second over time, failed ones marked")
    _, ticks, height = linear(max(((b.ok + b.bad + b.missed) / b.width for b in bins), default=1.0))
    fault_bands(picture, timeline)
    picture.value_axis(ticks)
    picture.time_axis()
    for item in bins:
        x0, x1 = frame.x(item.start), frame.x(item.start + item.width)
        x1 = max(x0 + 0.5, x1 - (1.0 if x1 - x0 > 3 else 0.0))
        total = item.ok + item.bad
        text = f"{item.start:.1f} s: {item.ok} ok, {item.bad} not ok, {item.missed} missed"
        picture.rect(x0, x1, frame.floor, frame.y(height(item.ok / item.width)), "ok", text)
        if item.bad:
            # At least two pixels: one failure among a thousand must be seen.
            top = min(frame.y(height(total / item.width)), frame.y(height(item.ok / item.width)) - 2)
            picture.rect(x0, x1, frame.y(height(item.ok / item.width)), top, "bad", text)
        if item.missed:
            base = frame.y(height(total / item.width))
            picture.rect(
                x0, x1, base, min(base - 2, frame.y(height((total + item.missed) / item.width))), "missed", text
            )
    return picture


def latency_plot(bins: Sequence[Bin], timeline: Timeline, frame: Frame) -> Picture:
    """Draw latency percentiles on a logarithmic scale."""
    picture = Picture(frame, "latency percentiles over time, logarithmic")
    seen = [value for item in bins for value in (item.p50, item.p99) if value is not None]
    ticks, height = logarithmic(min(seen, default=0.001), max(seen, default=0.1))
    fault_bands(picture, timeline)
    picture.value_axis(ticks)
    picture.time_axis()
    for name in ("p99", "p95", "p50"):
        points: list[tuple[float, float] | None] = []
        for item in bins:
            value: float | None = getattr(item, name)
            point = None if value is None else (frame.x(item.start + item.width / 2), frame.y(height(value)))
            points.append(point)
        picture.path(points, f"line {name}")
    for item in bins:
        if item.p50 is not None and item.p99 is not None and item.p95 is not None:
            text = (
                f"{item.start:.1f} s: p50 {latency_text(item.p50)}, p95 {latency_text(item.p95)}, "
                f"p99 {latency_text(item.p99)}"
            )
            picture.rect(
                frame.x(item.start), frame.x(item.start + item.width), frame.top, frame.floor, "hover", text
            )
    return picture


def peers_plot(timeline: Timeline, frame: Frame) -> Picture:
    """Draw the number of live peers as steps."""
    picture = Picture(frame, "live peers over time")
    peers = len(timeline.spans)
    _, ticks, height = linear(max(peers, 1))
    fault_bands(picture, timeline)
    picture.value_axis(ticks)
    picture.time_axis()
    points: list[tuple[float, float]] = []
    for moment, live in timeline.live_count():
        if points:
            points.append((frame.x(moment), points[-1][1]))
        points.append((frame.x(moment), frame.y(height(live))))
    if points:
        points.append((frame.x(frame.seconds), points[-1][1]))
        area = [(points[0][0], frame.floor), *points, (points[-1][0], frame.floor)]
        picture.path(area, "live-area", close=True)
        picture.path(points, "line live")
    return picture


#: bands of the copies plot from the bottom: (style, name in the legend)
COPY_BANDS = (
    ("full", "on all of its closest live peers"),
    ("short1", "1 copy short"),
    ("short2", "2 short"),
    ("short3", "3 or more short"),
    ("none", "no live copy"),
)


def copy_shares(census: Census) -> list[float]:
    """Return, for each band, the fraction of keys in it."""
    if not census.keys or not census.nodes:
        return [0.0, 0.0, 0.0, 0.0, 1.0 if census.keys else 0.0]
    counts = [0] * len(COPY_BANDS)
    for held, count in enumerate(census.placed):
        counts[min(census.wanted - held, 3)] += count
    # Keys that nobody holds were counted as short of every copy.
    counts[min(census.wanted, 3)] -= census.homeless
    counts[4] = census.homeless
    return [count / census.keys for count in counts]


def copies_plot(history: History, timeline: Timeline, frame: Frame) -> Picture:
    """Draw the fraction of keys by how many of their closest live peers hold them."""
    picture = Picture(frame, "fraction of keys by number of missing copies, over time")
    fault_bands(picture, timeline)
    censuses = [census for census in history.censuses if census.keys]
    shares = [copy_shares(census) for census in censuses]
    moments = [frame.x(census.end) for census in censuses]
    base = [0.0] * len(censuses)
    for band, (style, _) in enumerate(COPY_BANDS):
        top = [low + share[band] for low, share in zip(base, shares, strict=True)]
        if len(censuses) > 1 and any(share[band] for share in shares):
            upper = [(x, frame.y(value)) for x, value in zip(moments, top, strict=True)]
            lower = [(x, frame.y(value)) for x, value in zip(moments, base, strict=True)]
            picture.path([*upper, *reversed(lower)], f"band {style}", close=True)
        base = top
    picture.value_axis([(0.0, "0"), (0.5, "50 %"), (1.0, "100 %")])
    picture.time_axis()
    for index, census in enumerate(censuses):
        x0 = moments[index]
        x1 = moments[index + 1] if index + 1 < len(moments) else x0 + 2
        text = (
            f"{census.end:.1f} s: {census.keys} keys, {census.deficient} short of a copy, {census.homeless} "
            f"without any, {len(census.nodes)} live peers"
        )
        picture.rect(x0, x1, frame.top, frame.floor, "hover", text)
    return picture
