"""The `fab scenario.*` commands: one for each scenario of the library, made from its data."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any

from fabric import Connection
from invoke.collection import Collection
from invoke.tasks import task
from rich.console import Console

from scenarios.engine.display import display_for
from scenarios.engine.start import run_scenario
from scenarios.errors import UsageError
from scenarios.library import SCENARIOS
from scenarios.report.terminal import print_verdict
from scenarios.testbed.cli import reports_errors
from scenarios.testbed.lock import hold
from scenarios.testbed.providers import current, current_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scenarios.report.summary import Summary
    from scenarios.scenario import Scenario


def run_on_current(scenario: Scenario, given: Mapping[str, object]) -> Summary:
    """Run a scenario on the current testbed, with progress and verdict on the terminal; return its summary."""
    # Read here as well, so that a bad option is reported even where there is no testbed.
    scenario.read(given)
    console = Console()
    with hold(current_folder()):
        summary, folder = run_scenario(scenario, given, current(), display_for(console))
    print_verdict(console, summary, folder)
    return summary


def refuse_hosts(context: object) -> None:
    """Raise `UsageError` when fabric was told to run the task once for each host."""
    if isinstance(context, Connection):
        raise UsageError(
            "-H/--hosts does not apply here: a scenario runs once, on all peers of the testbed; choose a testbed "
            "with `fab testbed.up`"
        )


def scenario_task(scenario: Scenario) -> Any:
    """Return the invoke task of a scenario: one option on the command line for each of its options."""

    def body(context: object, **values: object) -> None:
        refuse_hosts(context)
        given = {name.replace("_", "-"): value for name, value in values.items()}
        summary = run_on_current(scenario, given)
        if summary["exit_code"]:
            sys.exit(summary["exit_code"])

    options = scenario.all_options()
    parameters = [inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    parameters += [
        inspect.Parameter(
            option.name.replace("-", "_"), inspect.Parameter.POSITIONAL_OR_KEYWORD, default=option.default
        )
        for option in options
    ]
    body.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    body.__name__ = scenario.name.replace("-", "_")
    body.__doc__ = f"{scenario.summary[0].upper()}{scenario.summary[1:]}.\n\n{scenario.description}\n"
    help_ = {
        option.name: option.help + (f" [{option.default}]" if option.default not in {"", False} else "")
        for option in options
    }
    return task(reports_errors(body), name=scenario.name, help=help_, auto_shortflags=False)


namespace = Collection("scenario")
for _scenario in SCENARIOS.values():
    namespace.add_task(scenario_task(_scenario))
