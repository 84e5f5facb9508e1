"""Results of a run: `summary.json` for programs and one self-contained `report.html` for people.

Both are made from `history.jsonl` alone, so they can be made again for any stored run, also an interrupted one.
"""

from scenarios.report.results import write_results
from scenarios.report.summary import Summary

__all__ = ["Summary", "write_results"]
