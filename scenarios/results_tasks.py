"""The `fab results.*` commands: what can be done with a stored run, without any network."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.collection import Collection
from invoke.tasks import task
from rich.console import Console

from scenarios.errors import UsageError
from scenarios.report import write_results
from scenarios.report.terminal import print_verdict
from scenarios.testbed.cli import reports_errors

if TYPE_CHECKING:
    from invoke.context import Context

_RUN_HELP = {"run": "folder of the run, for example results/churn/20260101T120000"}


def _folder(run: str) -> Path:
    folder = Path(run)
    if folder.name in {"report.html", "summary.json", "history.jsonl"}:
        folder = folder.parent
    if not (folder / "history.jsonl").is_file():
        raise UsageError(f"{run}: no stored run: there is no history.jsonl in it")
    return folder


@task(positional=["run"], help=_RUN_HELP)
@reports_errors
def report(_context: Context, run: str) -> None:
    """Write summary.json and report.html of a stored run again, also of an interrupted one."""
    folder = _folder(run)
    summary = write_results(folder)
    print(f"{summary['verdict']}: {folder / 'report.html'}")


@task(positional=["run"], help=_RUN_HELP)
@reports_errors
def check(_context: Context, run: str) -> None:
    """Judge a stored history again, without the network; exits with its verdict (0, 1, 2)."""
    folder = _folder(run)
    summary = write_results(folder)
    print_verdict(Console(), summary, folder)
    if summary["exit_code"]:
        sys.exit(summary["exit_code"])


namespace = Collection("results", report, check)
