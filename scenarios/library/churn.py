"""`fab scenario.churn`: peers are killed and come back by session and down times from distributions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scenarios.churn import churn_spells, parse_distribution
from scenarios.churn.process import TooManyDepartures, default_min_live
from scenarios.errors import UsageError
from scenarios.faults.schedule import HEAL, INJECT, Named, Step
from scenarios.options import Option, optional, whole
from scenarios.scenario import Plan, Scenario

if TYPE_CHECKING:
    from scenarios.scenario import Setting


def plan(setting: Setting) -> Plan:
    """Draw every absence from the seed; raises `UsageError` when `min-live` leaves nobody to churn."""
    options = setting.options
    names = [peer.name for peer in setting.topology.peers]
    min_live = options["min-live"]
    if min_live is None:
        min_live = default_min_live(len(names), setting.ksize)
    elif min_live >= len(names):
        raise UsageError(f"--min-live={min_live}: with {len(names)} peers nobody could leave; give less")
    fault = "wipe" if options["wipe"] else "kill"
    try:
        spells = churn_spells(
            names,
            options["session"],
            options["downtime"],
            until=options["duration"],
            min_live=min_live,
            seed=str(setting.seed),
        )
    except TooManyDepartures as error:
        raise UsageError(
            f"--session={options['session']} --downtime={options['downtime']}: {error}, more than can be carried "
            "out; give longer times"
        ) from None
    steps = [Step(INJECT, fault, Named((spell.peer,)), round(spell.gone, 3)) for spell in spells]
    steps += [
        Step(HEAL, fault, Named((spell.peer,)), round(spell.back, 3))
        for spell in spells
        if spell.back < options["duration"]
    ]
    gone = len({spell.peer for spell in spells})
    note = (
        f"{len(spells)} departures of {gone} peers ({fault}), sessions {options['session']}, "
        f"down times {options['downtime']}, at least {min_live} of {len(names)} peers kept alive"
    )
    return Plan(tuple(sorted(steps, key=lambda step: step.at)), (note,))


CHURN = Scenario(
    name="churn",
    summary="peers are killed and come back at random while keys are written and read",
    description=(
        "Keys are injected; then peers are killed with SIGKILL and started again, by session and down times "
        "drawn from distributions, while keys go on being written and read. Afterwards every acknowledged value "
        "must be readable, reads through live peers must have succeeded, and every key must be back on its k "
        "closest peers."
    ),
    needs=frozenset({"kill"}),
    checks=("durability", "availability", "replication"),
    options=(
        Option(
            "session",
            "exponential:60",
            "how long peers stay: exponential:60, weibull:0.5,60, pareto:1.5,60, lognormal:1,60, fixed:60, "
            "uniform:30,90",
            parse_distribution,
        ),
        Option("downtime", "exponential:10", "how long they are gone, as for --session", parse_distribution),
        Option(
            "min-live",
            "",
            "never fewer live peers than this (default: k, at least half, never all)",
            optional(whole(0)),
        ),
        Option("wipe", default=False, help="delete the store of every peer that is killed"),
    ),
    plan=plan,
)
