"""The end of a run on the terminal: a table of verdicts, and where the report is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from scenarios.report.text import visible

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from scenarios.report.summary import Summary

_STYLES = {"valid": "bold green", "invalid": "bold red", "unknown": "bold yellow"}
_MARKS = {"valid": "✓", "invalid": "✗", "unknown": "?"}


def print_verdict(console: Console, summary: Summary, folder: Path) -> None:
    """Print one row a check, the verdict of the run, and the path of the report as the last line."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in summary["checks"]:
        verdict = check["verdict"]
        mark = Text(f"{_MARKS[verdict]} {verdict}", style=_STYLES[verdict])
        table.add_row(mark, Text(check["check"]), Text(visible(check["headline"])))
    if summary["checks"]:
        console.print(table)
    console.print(Text(f"seed     {summary['seed']}"))
    again = Text(f"again    {visible(summary['command'])}")
    console.print(again, soft_wrap=True)
    verdict = summary["verdict"]
    line = Text.assemble("verdict  ", (verdict.upper(), _STYLES[verdict]))
    if verdict == "unknown" or not summary["checks"]:
        line.append(f"  {visible(summary['reason'])}")
    console.print(line, soft_wrap=True)
    console.print(Text(f"report   {folder / 'report.html'}"), soft_wrap=True)
