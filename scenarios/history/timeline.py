"""The life of every peer as a list of spans, for checks and drawings."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scenarios.history.model import History


@dataclass(frozen=True, slots=True)
class Span:
    """A peer was in one state from `start` to `end`."""

    state: str
    start: float
    end: float


class Timeline:
    """What each peer was believed to be, and when."""

    def __init__(self, history: History) -> None:
        end = history.end
        self.spans: dict[str, list[Span]] = {name: [] for name in peer_names(history)}
        open_: dict[str, tuple[str, float]] = {}
        for change in history.states:
            if change.peer in open_:
                state, since = open_[change.peer]
                self.spans.setdefault(change.peer, []).append(Span(state, since, change.t))
            open_[change.peer] = (change.state, change.t)
        for peer, (state, since) in open_.items():
            self.spans.setdefault(peer, []).append(Span(state, since, max(since, end)))
        self._starts = {peer: [span.start for span in spans] for peer, spans in self.spans.items()}

    def at(self, peer: str, moment: float) -> Span | None:
        """Return the span that a moment falls into."""
        index = bisect_right(self._starts.get(peer, ()), moment) - 1
        return self.spans[peer][index] if index >= 0 else None

    def up_throughout(self, peer: str, start: float, end: float) -> bool:
        """Whether the peer was believed up from `start` to `end`."""
        span = self.at(peer, start)
        return span is not None and span.state == "up" and end <= span.end

    def live_count(self) -> list[tuple[float, int]]:
        """Return the number of peers up, as steps: (moment, number from then on)."""
        changes: list[tuple[float, int]] = []
        for spans in self.spans.values():
            for span in spans:
                if span.state == "up":
                    changes += [(span.start, 1), (span.end, -1)]
        steps: list[tuple[float, int]] = []
        live = 0
        for moment, change in sorted(changes, key=lambda item: item[0]):
            live += change
            if steps and steps[-1][0] == moment:
                steps[-1] = (moment, live)
            else:
                steps.append((moment, live))
        # The last step is the end of the history, not of the peers.
        return steps[:-1] if steps and steps[-1][1] == 0 else steps


def peer_names(history: History) -> list[str]:
    """Return the names of the peers of the run's topology, in its order."""
    return [str(peer["name"]) for peer in history.header.get("topology", {}).get("peers", [])]
