"""`fab demo`: a network of separate processes stood up, churned, judged, and taken down again."""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.tasks import task
from rich.console import Console

from scenarios.engine.display import display_for
from scenarios.engine.start import require_writable, run_scenario
from scenarios.errors import NoTestbed, UsageError
from scenarios.library import SCENARIOS
from scenarios.report.terminal import print_verdict
from scenarios.tasks import refuse_hosts
from scenarios.testbed import lifecycle
from scenarios.testbed.cli import reports_errors
from scenarios.testbed.lock import hold
from scenarios.testbed.providers import current, current_folder
from scenarios.testbed.state import StateFolder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

PEERS = 8
DURATION = "40s"
SETTINGS = {"provider": "local", "peers": PEERS, "ksize": 3, "profile": "demo"}
CHURN = {"session": "exponential:30", "downtime": "exponential:6"}


def refuse_second_testbed() -> None:
    """Raise `UsageError` when a testbed is up: the demo would take it down at its end."""
    with contextlib.suppress(NoTestbed):
        folder = current_folder()
        raise UsageError(
            f"a testbed is up already in {folder.root}; run `fab scenario.churn` on it, or take it down with "
            "`fab testbed.down` first"
        )


@contextlib.contextmanager
def ended_like_ctrl_c() -> Iterator[None]:
    """Let SIGTERM and a closed terminal end the block as Ctrl-C does, so that what it set up is taken down."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Ignore these signals in the block: it is short, and ends what must not be left behind."""
    ignored = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ignored}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@task(
    help={
        "seed": "of all randomness [1]; another one churns the network in another way",
        "duration": f"how long the network is churned [{DURATION}]",
        "results": "folder for results [results]",
    },
    auto_shortflags=False,
)
@reports_errors
def demo(context: object, seed: str = "1", duration: str = DURATION, results: str = "results") -> None:
    """Stand up 8 peers, churn them, judge whether the data survived, take them down."""
    refuse_hosts(context)
    churn = SCENARIOS["churn"]
    given = {**CHURN, "seed": seed, "duration": duration, "results": results}
    read = churn.read(given)
    require_writable(Path(results))
    refuse_second_testbed()
    folder = StateFolder.default()
    console = Console()
    with ended_like_ctrl_c(), hold(folder):
        try:
            with console.status(f"deploying {PEERS} peers with Ansible") as status:
                console.print(f"deploying {PEERS} peers to this machine with Ansible")
                lifecycle.up(folder, SETTINGS, lambda name: status.update(f"deploying: {name}"))
            again = [f"--duration={duration}"] if duration != DURATION else []
            command = shlex.join(["fab", "demo", *again, f"--seed={read['seed']}"])
            summary, path = run_scenario(churn, given, current(), display_for(console), command=command)
        except KeyboardInterrupt:
            print("fab: interrupted; taking down what was set up; `make demo` begins anew", file=sys.stderr)
            raise
        finally:
            with undisturbed():
                ended = lifecycle.down(folder)
                if ended:
                    console.print("took the testbed down")
    print_verdict(console, summary, path)
    if summary["exit_code"]:
        sys.exit(summary["exit_code"])
