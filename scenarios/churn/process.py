"""The churn process: each peer alternates between sessions and down times, independently of the others."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scenarios.churn.distributions import Distribution


#: departures a second, of the whole network, that a schedule may ask for; a machine kills and starts fewer
MOST_PER_SECOND = 20.0


class TooManyDepartures(ValueError):
    """The drawn times are so short that nobody could carry the schedule out."""


@dataclass(frozen=True, slots=True)
class Spell:
    """One absence of one peer, in seconds since the process began; `back` may lie beyond the run's end."""

    peer: str
    gone: float
    back: float


def churn_spells(
    peers: Sequence[str],
    session: Distribution,
    downtime: Distribution,
    *,
    until: float,
    min_live: int,
    seed: str,
) -> list[Spell]:
    """Return every absence that begins before `until` (seconds), in order of its beginning.

    Every peer is up at 0 and has a random generator of its own, so that adding a peer leaves the draws of the
    others as they were.  `min_live` thins the process: a departure that would leave fewer than `min_live` peers
    is skipped, and the peer begins a new session at that moment.  The same arguments give the same spells.
    Raises `TooManyDepartures` beyond `MOST_PER_SECOND`, counting those that are skipped.
    """
    most = len(peers) + MOST_PER_SECOND * until
    departures = 0
    rngs = {peer: random.Random(f"{seed}:churn:{peer}") for peer in peers}
    # (moment, order, peer, is it a departure): `order` settles ties without comparing names of peers.
    events: list[tuple[float, int, str, bool]] = [
        (session.draw(rngs[peer]), order, peer, True) for order, peer in enumerate(peers)
    ]
    heapq.heapify(events)
    order = len(events)
    live = len(peers)
    spells: list[Spell] = []
    while events and events[0][0] < until:
        moment, _, peer, departs = heapq.heappop(events)
        order += 1
        departures += departs
        if departures > most:
            raise TooManyDepartures(f"more than {most:.0f} departures in {until:g} s")
        if not departs:
            live += 1
            next_event = (moment + session.draw(rngs[peer]), order, peer, True)
        elif live <= min_live:
            next_event = (moment + session.draw(rngs[peer]), order, peer, True)
        else:
            live -= 1
            back = moment + downtime.draw(rngs[peer])
            spells.append(Spell(peer, moment, back))
            next_event = (back, order, peer, False)
        heapq.heappush(events, next_event)
    return spells


def default_min_live(peers: int, ksize: int) -> int:
    """Return the smallest number of peers that keeps a churned network meaningful.

    At least k peers (else nothing can be stored k times) and at least half of them (else most peers are gone and
    routing is what is tested, not storage); but never all of them, for then nothing could churn.
    """
    return max(1, min(max(ksize, (peers + 1) // 2), peers - 1))
