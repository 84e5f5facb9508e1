"""Write the files that are derived from a history, each at once or not at all."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from scenarios.checks import CHECKS, Result, judge
from scenarios.history import load
from scenarios.report.html import render
from scenarios.report.summary import Summary, summarise

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from scenarios.checks import Check
    from scenarios.history import History


def write_results(folder: Path, *, judged: bool = True, checks: Sequence[str | Check] | None = None) -> Summary:
    """Write `summary.json` and `report.html` from `history.jsonl` in the same folder; return the summary.

    `checks` default to those that the run named in its header; a name that no check has any more is unknown.
    Raises `HistoryError` when the history cannot be read.
    """
    history = load(folder / "history.jsonl")
    named = history.header["checks"] if checks is None else checks
    results = judge([_check(check) for check in named], history) if judged else []
    summary = summarise(history, results)
    replace_file(folder / "summary.json", json.dumps(summary, indent=2) + "\n")
    replace_file(folder / "report.html", render(history, summary, results))
    return summary


def _check(check: str | Check) -> Check:
    return CHECKS.get(check, _Missing(check)) if isinstance(check, str) else check


class _Missing:
    """Stands for a check that this version of the kit does not have."""

    def __init__(self, name: str) -> None:
        self.name = name

    def judge(self, history: History) -> Result:
        """Return unknown."""
        return Result(self.name, "unknown", f"this version of the kit has no check {self.name!r}")


def replace_file(path: Path, text: str) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new one and nothing between."""
    draft = path.with_suffix(path.suffix + ".draft")
    try:
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, path)  # noqa: PTH105 - the name says what matters here
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error  # a failed write does not say of what
