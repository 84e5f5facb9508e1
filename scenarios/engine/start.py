"""From a scenario's name and options to a finished run: validates everything, then hands over to `Run`."""

from __future__ import annotations

import asyncio
import json
import platform
import random
import shlex
import subprocess
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from scenarios.engine import preflight
from scenarios.engine.run import Order, Run
from scenarios.errors import PhaseFailed, UsageError
from scenarios.report.results import replace_file
from scenarios.scenario import Setting

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scenarios.engine.display import Display
    from scenarios.report.summary import Summary
    from scenarios.scenario import Scenario
    from scenarios.testbed.model import Provider, Topology


def run_scenario(
    scenario: Scenario,
    given: Mapping[str, object],
    provider: Provider,
    display: Display,
    *,
    command: str | None = None,
) -> tuple[Summary, Path]:
    """Run a scenario against the current testbed; return its summary and the folder of its results.

    `given` holds option texts as the user wrote them; `command` repeats the run where it is not `fab scenario.…`
    on the same testbed.  Raises `UsageError` and `MissingCapability` before
    anything is touched, and `PhaseFailed` or `TestbedError` when peers are not fit to begin.
    """
    options = scenario.read(given)
    topology = provider.topology()
    seed = options["seed"] if options["seed"] is not None else random.SystemRandom().randrange(2**32)
    preflight.require_capabilities(provider, scenario.needs, scenario.name)
    preflight.assumptions(topology, topology.ksize, options["reads"])
    wanted = options["k"] or topology.ksize
    # A first plan, from the longest repair that is possible, finds impossible options and missing capabilities.
    draft = scenario.plan(Setting(options, topology, wanted, seed, repair_limit=1.0))
    preflight.require_capabilities(provider, preflight.needed_by(draft.steps), scenario.name)
    provider.states()  # raises where the peers' service manager does not answer: no fault could be made or healed
    require_writable(Path(options["results"]))
    again = command or _command(scenario, given, seed)
    try:
        return asyncio.run(_run(scenario, options, provider, topology, seed, wanted, display, again))
    finally:
        display.close()


def require_writable(results: Path) -> None:
    """Raise `UsageError` unless a folder can be made in `results`; makes `results` itself."""
    try:
        results.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=results):
            pass
    except OSError as error:
        raise UsageError(f"--results={results}: cannot write there: {error.strerror}") from None


async def _run(
    scenario: Scenario,
    options: Mapping[str, Any],
    provider: Provider,
    topology: Topology,
    seed: int,
    wanted: int,
    display: Display,
    command: str,
) -> tuple[Summary, Path]:
    if wanted != topology.ksize:
        display.say(
            f"deploying k = {wanted} (was {topology.ksize}) to {len(topology.peers)} peers, one after the other"
        )
        await asyncio.to_thread(provider.reconfigure, {"kademlia_ksize": wanted})
        topology = provider.topology()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        facts = await preflight.inspect(session, topology.peers)
        if facts.ksize != wanted:
            raise PhaseFailed(f"the peers run with k = {facts.ksize}, {wanted} was declared: deploy them again")
        limit = options["settle"] or preflight.repair_limit(facts.replicate)
        plan = scenario.plan(Setting(options, topology, wanted, seed, limit))
        run_id, folder = _new_folder(Path(options["results"]), scenario.name)
        header = {
            "run": run_id,
            "scenario": scenario.name,
            "summary": scenario.summary,
            "description": scenario.description,
            "seed": seed,
            "options": {name: _plain(value) for name, value in options.items()} | {"seed": seed, "k": wanted},
            "command": command,
            "topology": asdict(topology),
            "replicate": facts.replicate,
            "repair_limit": limit,
            "steps": [step.as_data() for step in plan.steps],
            "checks": [check if isinstance(check, str) else check.name for check in scenario.checks],
            "versions": {
                "python": platform.python_version(),
                "kit": _kit_version(),
                "node": facts.node_version,
                "system": f"{platform.system()} {platform.release()}",
            },
        }
        replace_file(folder / "topology.json", json.dumps(asdict(topology), indent=2) + "\n")
        order = Order(scenario, options, provider, topology, wanted, facts, seed, plan, run_id, folder, header)
        return await Run(order, display, session).execute(), folder


def _new_folder(results: Path, scenario: str) -> tuple[str, Path]:
    """Create `results/<scenario>/<time>`, with a counter when that second is taken; return the run's ID too."""
    stamp = time.strftime("%Y%m%dT%H%M%S")
    for attempt in range(1000):
        name = stamp if attempt == 0 else f"{stamp}-{attempt}"
        folder = results / scenario / name
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise UsageError(f"--results={results}: cannot create {folder}: {error.strerror}") from None
        return f"{scenario}-{name}", folder
    raise UsageError(f"--results={results}: {results / scenario / stamp} and 999 more exist already")


def _plain(value: object) -> object:
    """Return an option's value as it can stand in JSON."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return getattr(value, "text", None) or getattr(value, "__name__", str(value))


def _command(scenario: Scenario, given: Mapping[str, object], seed: int) -> str:
    """Return the command that repeats the run."""
    words = ["fab", f"scenario.{scenario.name}"]
    defaults = {option.name: option.default for option in scenario.all_options()}
    for name, value in given.items():
        if name in {"seed", "results"} or value is None or value == defaults.get(name):
            continue
        words.append(f"--{name}" if value is True else f"--{name}={value}")
    return shlex.join([*words, f"--seed={seed}"])


def _kit_version() -> str:
    """Return the commit of this checkout, or the empty text where git does not know it."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"],  # noqa: S607 - whichever git the user has
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
