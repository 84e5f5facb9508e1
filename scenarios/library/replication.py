"""`fab scenario.replication`: kill exactly the holders of chosen keys and watch the network repair itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scenarios.faults.schedule import HEAL, INJECT, Everyone, HoldersOf, Step
from scenarios.options import Option, whole
from scenarios.scenario import Plan, Scenario

if TYPE_CHECKING:
    from scenarios.scenario import Setting

ONE_BY_ONE = "one-by-one"
ALL_BUT_ONE = "all-but-one"
ALL = "all"


def parse_victims(text: str) -> tuple[str | int, ...]:
    """Return the stages; raises `ValueError` for anything but their names and numbers of 1 or more."""
    stages: list[str | int] = []
    for part in text.split(","):
        stage = part.strip()
        if stage in {ONE_BY_ONE, ALL_BUT_ONE, ALL}:
            stages.append(stage)
        elif stage.isascii() and stage.isdigit() and 1 <= int(stage) <= 1000:
            stages.append(int(stage))
        else:
            raise ValueError(
                f"{stage!r} is no stage: write {ONE_BY_ONE}, {ALL_BUT_ONE}, {ALL} or how many holders "
                "to kill at once, several with commas"
            )
    return tuple(stages)


def plan(setting: Setting) -> Plan:
    """Lay out the stages for every chosen key; each ends when the network has repaired itself, or had its time."""
    options = setting.options
    fault = "wipe" if options["wipe"] else "kill"
    limit = setting.repair_limit
    everyone_back = Step(HEAL, fault, Everyone(), repair_limit=limit)
    steps: list[Step] = []
    for key_index in range(min(options["chosen"], options["keys"])):
        for stage in options["victims"]:
            if stage == ONE_BY_ONE:
                # After each loss the network is given time to repair, so that the next holder is no longer needed.
                one = Step(INJECT, fault, HoldersOf(key_index, count=1), repair_limit=limit)
                steps += [one] * setting.ksize
            elif stage == ALL_BUT_ONE:
                steps.append(Step(INJECT, fault, HoldersOf(key_index, spare=1), repair_limit=limit))
            else:
                count = None if stage == ALL else int(stage)
                target = HoldersOf(key_index, count=count, min_live=0)
                steps.append(Step(INJECT, fault, target, repair_limit=limit))
            steps.append(everyone_back)
    note = (
        f"{fault} the holders of {options['chosen']} chosen key(s): {', '.join(map(str, options['victims']))}; "
        f"each time up to {limit:.0f} s for repair"
    )
    return Plan(tuple(steps), (note,))


REPLICATION = Scenario(
    name="replication",
    summary="the holders of chosen keys are killed, one by one and all but one; repair is watched",
    description=(
        "Keys are injected; then exactly the peers that hold a chosen key are killed: one after the other, "
        "the network repairing itself in between, and then all but one at the same instant. With --wipe they lose "
        "their stores, and only repair can save the data; --victims=all --wipe destroys every copy, which must be "
        "noticed."
    ),
    needs=frozenset({"kill"}),
    checks=("durability", "availability", "replication"),
    options=(
        Option(
            "victims",
            "one-by-one,all-but-one",
            "stages: one-by-one, all-but-one, all, or how many holders to kill at once",
            parse_victims,
        ),
        Option("chosen", "1", "number of keys whose holders are killed, one key after the other", whole(1, 1000)),
        Option("wipe", default=False, help="delete the store of every peer that is killed"),
    ),
    plan=plan,
    defaults={"duration": "10s"},
)
