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
from scenarios.engine.fleet import Fleet
from scenarios.engine.interrupt import Interrupted, Interrupts
from scenarios.engine.logs import copy_logs
from scenarios.engine.progress import Progress
from scenarios.errors import PhaseFailed, ScenariosError
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

    from scenarios.engine.display import Display
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
        values = Values(order.run_id, options["value-size"])
        self.census = CensusTaker(
            session,
            self.clock,
            self.history,
            self.fleet,
            self.ledger,
            ksize=order.ksize,
            fingerprint=values.fingerprint,
        )
        self.client = Client(
            session,
            self.clock,
            self.history,
            values,
            self.ledger,
            self.fleet.peers,
            timeout=options["timeout"],
        )
        self.faults = FaultRunner(order.provider, self.fleet, self.history, self.clock)
        self.repair_limit: float = options["settle"] or preflight.repair_limit(order.facts.replicate)
        self._progress = Progress(display, self.clock, self.client.tally, self.fleet)
        self._interrupts = Interrupts(display.say, display.close)
        self.history.failed = self._interrupts.stop

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
        self.history.mark(self.clock.now(), name, "begin")
        self._progress.enter(name, limit, at_most=at_most)
        await self._save()
        try:
            yield
        except BaseException as error:
            cause = "interrupted" if isinstance(error, asyncio.CancelledError) else str(error) or repr(error)
            self.history.mark(self.clock.now(), name, "fail", cause)
            raise
        else:
            self.history.mark(self.clock.now(), name, "end")

    async def _save(self) -> None:
        """Bring summary and report up to date, not yet judged; a run that cannot keep them ends, and heals."""
        try:
            await asyncio.to_thread(write_results, self._order.folder, judged=False)
        except OSError as error:
            self._interrupts.stop(f"cannot write the results to {self._order.folder}: {error.strerror}")

    async def execute(self) -> Summary:
        """Run all phases; return the final summary.  Raises nothing that a network or a user can cause."""
        self._say_start()
        await self._save()
        ticker = asyncio.create_task(self._progress.tick())
        failure = ""
        try:
            with self._interrupts as interrupts:
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
        failure = failure or self._interrupts.reason
        self.history.mark(self.clock.now(), "run", "fail" if failure else "end", failure)
        self.history.close()
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
            if written < keys:
                text = (
                    f"only {written} of {keys} keys could be written; the last refusal: {self.client.last_refusal}"
                )
                self.history.note(self.clock.now(), text)
                if not written:
                    raise PhaseFailed(text)
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
        if missed := self.client.tally.missed:
            text = f"{missed} starts were missed: the rate of {mix.rate:g} a second was not kept"
            self.history.note(self.clock.now(), text)

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
        if self._progress.phase.name in {"preflight", "heal", "settle"}:
            return failure
        try:
            await self._heal()
        except (ScenariosError, OSError) as error:
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
