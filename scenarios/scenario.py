"""A scenario is data: a name, options, a fault schedule made from them, and the checks that judge the outcome.

    churn = Scenario(
        name="churn",
        summary="peers leave and come back …",          # the line of `fab --list`
        options=(Option("session", "exponential:60", "…", parse_distribution), …),
        plan=plan,                                       # (Setting) -> Plan: steps, and what to tell the reader
        checks=("durability", "availability", "replication"),
    )

The engine adds the common options (rate, keys, seed, …), loads the network, carries out the steps, heals, waits
for the network to settle, and lets the checks judge.  A scenario never talks to the network itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from scenarios.options import Option, between, duration, optional, read_options, seed, whole
from scenarios.workload.keys import SMALLEST_VALUE, parse_popularity

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from scenarios.checks import Check
    from scenarios.faults.schedule import Step
    from scenarios.testbed.model import Topology

#: options that every scenario has
COMMON = (
    Option("duration", "60s", "how long the workload runs (90, 90s, 2m)", duration),
    Option("keys", "200", "keys written before the first fault", whole(1, 1_000_000)),
    Option("rate", "50", "operations a second, open loop", between(0, 100_000, open_low=True)),
    Option("reads", "0.8", "fraction of gets; the others are puts of new keys", between(0, 1)),
    Option("popularity", "uniform", "which keys are read: uniform or zipf:EXPONENT", parse_popularity),
    Option("value-size", "256", "bytes of each value", whole(SMALLEST_VALUE, 10_000_000)),
    Option("timeout", "5s", "after this long an operation counts as timed out", duration),
    Option("k", "", "replication parameter; deploys it first when it differs", optional(whole(1, 1000))),
    Option("availability", "0.95", "fraction of gets through live peers that must succeed", between(0, 1)),
    Option(
        "settle",
        "",
        "time limit for repair after healing (default: from the replicate interval)",
        optional(duration),
    ),
    Option("seed", "", "of all randomness; drawn and printed when not given", optional(seed)),
    Option("results", "results", "folder for results", str),
)


@dataclass(frozen=True, slots=True)
class Setting:
    """What a plan is made from."""

    #: value of every option by its name
    options: Mapping[str, Any]
    topology: Topology
    ksize: int
    seed: int
    #: seconds within which the network should have repaired itself after a fault
    repair_limit: float


@dataclass(frozen=True, slots=True)
class Plan:
    """The fault schedule, and remarks on it for the reader."""

    steps: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()


def no_faults(_setting: Setting) -> Plan:
    """Plan nothing: the network is loaded and judged without being broken."""
    return Plan()


@dataclass(frozen=True, slots=True)
class Scenario:
    """One way to try a network."""

    name: str
    #: one line for `fab --list`
    summary: str
    #: what it does and finds out, for `fab --help` and the report
    description: str
    #: names of checks, or checks
    checks: tuple[str | Check, ...]
    options: tuple[Option, ...] = ()
    plan: Callable[[Setting], Plan] = no_faults
    #: capabilities that the scenario needs whatever its options are
    needs: frozenset[str] = frozenset()
    #: defaults of common options that differ here
    defaults: Mapping[str, str] = field(default_factory=dict)

    def all_options(self) -> tuple[Option, ...]:
        """Return the common options, with this scenario's defaults, and its own."""
        common = (
            Option(option.name, self.defaults.get(option.name, option.default), option.help, option.parse)
            for option in COMMON
        )
        return (*self.options, *common)

    def read(self, given: Mapping[str, object]) -> dict[str, Any]:
        """Return the value of every option; raises `UsageError` for an impossible one."""
        return read_options(self.all_options(), given)
