"""Carries out a fault schedule, and heals whatever is broken when it is over."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from scenarios.errors import PhaseFailed, TestbedError
from scenarios.faults import fault_named
from scenarios.faults.schedule import HEAL, INJECT
from scenarios.history.model import Fault as FaultRecord

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scenarios.clock import Clock
    from scenarios.engine.fleet import Fleet
    from scenarios.faults.base import Fault
    from scenarios.faults.schedule import Scene, Step
    from scenarios.history import HistoryWriter
    from scenarios.testbed.model import Provider


#: seconds behind its schedule from which a run says so
LATE = 1.0


class FaultRunner:
    """Injects and heals through a provider; every verb goes to the history with its beginning and end."""

    def __init__(self, provider: Provider, fleet: Fleet, history: HistoryWriter, clock: Clock) -> None:
        self._provider = provider
        self._fleet = fleet
        self._history = history
        self._clock = clock
        self.injected = 0

    async def run(self, steps: Iterable[Step], scene: Scene) -> None:
        """Carry out the steps in their order; raises `PhaseFailed` when the provider cannot do one."""
        begin = self._clock.now()
        late = 0.0
        for step in steps:
            if step.repair_limit:
                await self._wait_for_repair(step, scene)
            await self._clock.sleep_until(begin + step.at)
            if step.at:
                late = max(late, self._clock.now() - begin - step.at)
            names = await step.target.peers(scene)
            if not names:
                self._history.note(self._clock.now(), f"{step.action} {step.fault}: no peer to work on")
            fault = fault_named(step.fault)
            await asyncio.gather(*(self._do(step.action, fault, name) for name in names))
        if late > LATE:
            self._history.note(self._clock.now(), f"the fault schedule fell behind, by up to {late:.1f} s")

    async def _wait_for_repair(self, step: Step, scene: Scene) -> None:
        took = await scene.repaired(step.repair_limit)
        if took is None:
            text = f"the network had not repaired itself after {step.repair_limit:.0f} s; going on"
        else:
            text = f"repaired: every key is on its closest live peers after {took:.1f} s"
        self._history.note(self._clock.now(), text)

    async def _do(self, action: str, fault: Fault, name: str) -> None:
        peer = self._fleet.peers[name]
        record = FaultRecord(fault.name, action, name, self._clock.now(), 0.0)
        if action == INJECT:
            # Clients look elsewhere from this moment on: that the peer is gone is the schedule's doing.
            self._fleet.forget(name)
            self._fleet.set(name, fault.state)
            self.injected += 1
        verb = fault.inject if action == INJECT else fault.heal
        try:
            await asyncio.to_thread(verb, self._provider, peer)
        except TestbedError as error:
            record.ok, record.detail = False, str(error)
            raise PhaseFailed(f"cannot {action} {fault.name} on {name}: {error}") from error
        finally:
            record.end = self._clock.now()
            self._history.fault(record)
        if action == HEAL:
            self._fleet.starting(name)

    async def heal_all(self, limit: float) -> list[str]:
        """Undo every fault and wait until every peer is up, `limit` seconds at most; return those that are not.

        Raises `TestbedError` when the provider itself cannot heal.
        """
        start = self._clock.now()
        broken = [name for name, state in self._fleet.down().items() if state != "starting"]
        for sentence in await asyncio.to_thread(self._provider.heal):
            self._history.note(self._clock.now(), sentence)
        for name in broken:
            self._history.fault(FaultRecord("all", HEAL, name, start, self._clock.now()))
            self._fleet.starting(name)
        return await self._fleet.wait_up(list(self._fleet.peers), limit, again=True)
