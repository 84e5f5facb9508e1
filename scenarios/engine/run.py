"""One run of a scenario, phase after phase.

preflight (may we? are all peers well?) → preload → workload, under faults → heal → settle (wait for repair, take
the final census, read everything back) → checks → report.  A phase that fails ends the run, which heals, keeps
what it has and is `unknown`.  Everything that is known goes to the history first; summary and report are made
from the history alone, after every phase, so that a run that is killed leaves results that can be read.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scenarios.clock import RunClock
from scenarios.engine import preflight
from scenarios.engine.display import Display, Status
from scenarios.engine.fleet import Fleet
from scenarios.engine.interrupt import Interrupted, Interrupts
from scenarios.engine.logs import copy_logs
from scenarios.errors import PhaseFailed, ScenariosError, TestbedError
from scenarios.faults.runner import FaultRunner
from scenarios.faults.schedule import schedule_end
from scenarios.history import HistoryWriter
from scenarios.probes.census import CensusTaker, homeless_keys
from scenarios.probes.readback import read_back
from scenarios.report import write_results
from scenarios.workload import Client, Ledger, Mix, Values, preload, run_open_loop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    import aiohttp

    from scenarios.report.summary import Summary
    from scenarios.scenario import Plan, Scenario
    from scenarios.testbed.model import Provider, Topology

#: seconds that peers may take to come back after healing
_HEAL_LIMIT = 60.0
#: seconds between two censuses during the workload
_CENSUS_EVERY = 2.0
#: seconds that reading back gets at least, however long the repair took
_READ_BACK_LEAST = 10.0


@dataclass(frozen=True, slots=True)
class Order:
    """Everything that defines a run before it begins."""

    scenario: Scenario
    #: value of every option by its name
    options: Mapping[str, Any]
    provider: Provider
    topology: Topology
    ksize: int
    facts: preflight.Facts
    seed: int
    plan: Plan
    run_id: str
    folder: Path
    #: what the first line of the history says
    header: Mapping[str, Any]


class Run:
    """Carries out one order."""

    def __init__(self, order: Order, display: Display, session: aiohttp.ClientSession) -> None:
        self._order = order
        self._display = display
        options = order.options
        self.clock = RunClock()
        self.history = HistoryWriter(order.folder / "history.jsonl", {**order.header, "wall": self.clock.wall})
        self.fleet = Fleet(order.topology.peers, session, self.clock, self.history)
        self.ledger = Ledger(order.run_id)
        self.census = CensusTaker(session, self.clock, self.history, self.fleet, self.ledger, ksize=order.ksize)
        self.client = Client(
            session,
            self.clock,
            self.history,
            Values(order.run_id, options["value-size"]),
            self.ledger,
            self.fleet.peers,
            timeout=options["timeout"],
        )
        self.faults = FaultRunner(order.provider, self.fleet, self.history, self.clock)
        self.repair_limit: float = options["settle"] or preflight.repair_limit(order.facts.replicate)
        self._phase: tuple[str, float, float | None, bool] = ("preflight", 0.0, None, False)

    # What fault targets may ask (faults.schedule.Scene).

    def up(self) -> tuple[str, ...]:
        """Return the peers that are up."""
        return tuple(self.fleet.up())

    def down(self) -> dict[str, str]:
        """Return the state of every peer that is not up."""
        return self.fleet.down()

    async def holders_of(self, key_index: int) -> list[str]:
        """Return the live holders of the n-th acknowledged key, closest first."""
        return await self.census.holders_of(key_index)

    async def repaired(self, limit: float) -> float | None:
        """Wait for the network to repair itself; return the seconds it took, None when `limit` was not enough.

        Peers that are starting are part of the network: what belongs on them is known when they are up.
        """
        begin = self.clock.now()
        starting = [name for name, state in self.fleet.down().items() if state == "starting"]
        await self.fleet.wait_up(starting, limit)
        took = await self.census.repaired(limit - (self.clock.now() - begin))
        return None if took is None else self.clock.now() - begin

    # The phases.

    @contextlib.asynccontextmanager
    async def _in_phase(
        self, name: str, limit: float | None = None, *, at_most: bool = True
    ) -> AsyncIterator[None]:
        self._phase = (name, self.clock.now(), limit, at_most)
        self.history.mark(self.clock.now(), name, "begin")
        self._show(0.0)
        try:
            yield
        except BaseException as error:
            cause = "interrupted" if isinstance(error, asyncio.CancelledError) else str(error) or repr(error)
            self.history.mark(self.clock.now(), name, "fail", cause)
            raise
        else:
            self.history.mark(self.clock.now(), name, "end")
        finally:
            await self._save()

    async def _save(self) -> None:
        """Bring summary and report up to date with the history, not yet judged."""
        await asyncio.to_thread(write_results, self._order.folder, judged=False)

    async def execute(self) -> Summary:
        """Run all phases; return the final summary.  Raises nothing that a network or a user can cause."""
        self._say_start()
        await self._save()
        ticker = asyncio.create_task(self._tick())
        failure = ""
        try:
            with Interrupts(self._display.say) as interrupts:
                try:
                    await interrupts.run(self._break())
                    await self._heal()
                    await interrupts.run(self._settle())
                except Interrupted as error:
                    failure = str(error)
                except ScenariosError as error:
                    failure = str(error)
                except Exception as error:
                    failure = f"{error!r}\n{traceback.format_exc()}"
                if failure:
                    failure = await self._heal_after(failure)
        finally:
            ticker.cancel()
            await self.fleet.close()
        for line in failure.splitlines()[:1]:
            self._display.say(f"could not finish: {line}")
        await self._collect_logs()
        self.history.mark(self.clock.now(), "run", "fail" if failure else "end", failure)
        self.history.close()
        self._phase = ("checks", self.clock.now(), None, False)
        return await asyncio.to_thread(write_results, self._order.folder, checks=self._order.scenario.checks)

    def _say_start(self) -> None:
        order = self._order
        self._display.say(f"scenario {order.scenario.name}: {order.scenario.summary}")
        self._display.say(f"seed {order.seed}, results in {order.folder}")
        remarks = preflight.assumptions(order.topology, order.ksize, order.options["reads"])
        for remark in (*order.plan.notes, *remarks):
            self.history.note(self.clock.now(), remark)
            self._display.say(f"· {remark}")

    async def _break(self) -> None:
        order = self._order
        async with self._in_phase("preflight", preflight.PATIENCE):
            self.history.facts(order.facts.as_data())
            missing = await self.fleet.wait_up(self.fleet.peers, preflight.PATIENCE)
            if missing:
                raise PhaseFailed(f"not up any more: {', '.join(missing)}; run `fab testbed.heal`")
        async with self._in_phase("preload"):
            keys = order.options["keys"]
            rng = random.Random(f"{order.seed}:preload")
            written = await preload(
                keys, client=self.client, ledger=self.ledger, fleet=self.fleet, clock=self.clock, rng=rng
            )
            if written == 0:
                raise PhaseFailed(f"none of {keys} keys could be written to a network that says it is healthy")
        end = max(order.options["duration"], schedule_end(order.plan.steps))
        async with self._in_phase("workload", end, at_most=end > order.options["duration"]):
            await self._load_and_break()

    async def _load_and_break(self) -> None:
        order, options = self._order, self._order.options
        stop = asyncio.Event()
        begin = self.clock.now()
        mix = Mix(options["rate"], options["reads"], options["popularity"])
        watcher = asyncio.create_task(self.census.watch(_CENSUS_EVERY))
        load = asyncio.create_task(
            run_open_loop(
                mix,
                client=self.client,
                ledger=self.ledger,
                fleet=self.fleet,
                history=self.history,
                clock=self.clock,
                rng=random.Random(f"{order.seed}:workload"),
                stop=stop,
            )
        )
        try:
            await self.faults.run(order.plan.steps, self)
            await self.clock.sleep_until(begin + options["duration"])
            stop.set()
            await load
        finally:
            for task in (watcher, load):
                task.cancel()
            outcomes = await asyncio.gather(watcher, load, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome

    async def _heal(self) -> None:
        async with self._in_phase("heal", _HEAL_LIMIT):
            missing = await self.faults.heal_all(_HEAL_LIMIT)
            if missing:
                raise PhaseFailed(
                    f"not back {_HEAL_LIMIT:.0f} s after healing: {', '.join(missing)}; see their logs, then run "
                    "`fab testbed.heal`"
                )

    async def _heal_after(self, failure: str) -> str:
        """Heal unless the run failed in healing; return the failure with what healing adds to it."""
        if self._phase[0] in {"preflight", "heal", "settle"}:
            return failure
        try:
            await self._heal()
        except (PhaseFailed, TestbedError) as error:
            return f"{failure}; and healing failed: {error}"
        return failure

    async def _settle(self) -> None:
        limit = self.repair_limit
        everyone = list(self.fleet.peers)
        async with self._in_phase("settle", limit + _READ_BACK_LEAST):
            deadline = self.clock.now() + limit
            await self.census.repaired(limit)
            await self.census.take(full=True)
            await read_back(
                client=self.client,
                ledger=self.ledger,
                fleet=self.fleet,
                clock=self.clock,
                rng=random.Random(f"{self._order.seed}:verify"),
                deadline=max(deadline, self.clock.now() + _READ_BACK_LEAST),
                hopeless=lambda: homeless_keys(self.census.last, everyone) if self.census.last else set(),
            )

    async def _collect_logs(self) -> None:
        """Copy the peers' logs beside the results; their absence never spoils a run."""
        complaint = await asyncio.to_thread(
            copy_logs, self._order.provider, self._order.topology, self._order.folder / "logs"
        )
        if complaint:
            self.history.note(self.clock.now(), complaint)

    async def _tick(self) -> None:
        """Show the run a few times a second."""
        tally = self.client.tally
        seen: list[tuple[float, int]] = []
        while True:
            now = self.clock.now()
            seen = [item for item in seen if now - item[0] < 2.0] + [(now, tally.done)]
            span = now - seen[0][0]
            rate = (tally.done - seen[0][1]) / span if span > 0.2 else 0.0
            self._show(rate)
            await asyncio.sleep(0.25)

    def _show(self, rate: float) -> None:
        tally = self.client.tally
        name, since, limit, at_most = self._phase
        self._display.update(
            Status(
                name,
                self.clock.now() - since,
                limit,
                at_most,
                rate,
                tally.done,
                tally.done - tally.outcomes["ok"],
                tally.missed,
                len(self.fleet.up()),
                len(self.fleet.peers),
                self.fleet.down(),
            )
        )
