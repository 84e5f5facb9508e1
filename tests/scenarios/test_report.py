"""Summary and report: complete, harmless, and made from any history that can be read."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import made
import pytest

from scenarios.history import History, HistoryWriter, Op
from scenarios.history.model import Fault, PeerState
from scenarios.report import Summary, write_results
from scenarios.report import results as results_module
from scenarios.report.text import visible

SCHEMA = json.loads(Path(results_module.__file__).with_name("summary.schema.json").read_text())
#: everything that a browser would fetch, or run
FETCHING = {
    "script",
    "link",
    "img",
    "iframe",
    "object",
    "embed",
    "video",
    "audio",
    "source",
    "base",
    "form",
    "image",
    "use",
}
HOSTILE = "<script>alert(1)</script>\"'&\u202egnp.exe\u2066\x00\x1b[31m\n</style></title>" + "a" * 900


class Page(HTMLParser):
    """Collects tags, attributes and texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the tag and its attributes."""
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        """Note the text."""
        self.texts.append(data)


def results(history: History, folder: Path) -> tuple[Summary, str]:
    made.store(history, folder)
    summary = write_results(folder)
    return summary, (folder / "report.html").read_text()


def broken() -> History:
    """Return a history with a fault, failed operations and a lost key."""
    history = made.clean()
    history.states += [
        PeerState(3.0, "peer1", "killed"),
        PeerState(5.0, "peer1", "starting"),
        PeerState(6.0, "peer1", "up"),
    ]
    history.faults = [Fault("kill", "inject", "peer1", 3.0, 3.1), Fault("kill", "heal", "peer1", 5.0, 5.1)]
    history.ops += [made.get(made.KEYS[0], "peer2", 3.0 + n / 50, "fail", detail="timeout") for n in range(60)]
    history.ops = [op for op in history.ops if op.phase != "verify" or op.key != made.KEYS[1]]
    history.ops.append(made.get(made.KEYS[1], "peer4", 12.9, "fail", phase="verify", detail="not found"))
    history.notes = [(3.0, "something happened")]
    return history


@pytest.mark.parametrize("make", [made.clean, broken])
def test_summaries_follow_their_schema(make, tmp_path: Path) -> None:
    """The schema stands beside the code and in docs/results.md."""
    summary, _ = results(make(), tmp_path)
    jsonschema.validate(json.loads((tmp_path / "summary.json").read_text()), SCHEMA)
    assert json.loads((tmp_path / "summary.json").read_text()) == summary


def test_the_summary_of_a_run_that_has_just_begun_follows_the_schema_too(tmp_path: Path) -> None:
    """Readers may come at any moment."""
    with HistoryWriter(tmp_path / "history.jsonl", made.header()):
        summary = write_results(tmp_path, judged=False)
    jsonschema.validate(summary, SCHEMA)
    assert (summary["verdict"], summary["finished"], summary["checks"]) == ("unknown", False, [])


@pytest.mark.parametrize("make", [made.clean, broken])
def test_the_report_fetches_nothing_and_runs_nothing(make, tmp_path: Path) -> None:
    """One file, for ever: no script, no picture, no style, no link from elsewhere."""
    _, text = results(make(), tmp_path)
    page = Page(text)
    assert not page.tags & FETCHING
    names = {name for name, _ in page.attributes}
    assert not names & {"src", "href", "srcset", "action", "style", "background"}
    assert not any(name.startswith("on") for name in names)
    assert not re.search(r"(?i)https?:|//[a-z]|url\(|@import|javascript:", text)


def test_failed_checks_come_first_with_their_evidence(tmp_path: Path) -> None:
    """What went wrong is what the reader came for."""
    summary, text = results(broken(), tmp_path)
    assert summary["verdict"] == "invalid"
    order = re.findall(r'<article class="check (\w+)">', text)
    assert order == sorted(order, key=["invalid", "unknown", "valid"].index)
    assert order[0] == "invalid"
    assert "The data did not survive" in text
    assert made.KEYS[1] in text


def test_hostile_keys_and_texts_harm_nothing(tmp_path: Path) -> None:
    """Markup, bidirectional overrides, control characters and very long texts are shown as what they are."""
    history = broken()
    history.ops += [
        Op(99, "put", HOSTILE, "peer1", "preload", 0.6, 0.6, 0.7, "ok"),
        Op(100, "get", HOSTILE, "peer2", "workload", 4.0, 4.0, 4.1, "fail", detail=HOSTILE),
        Op(101, "get", HOSTILE, "peer2", "verify", 12.0, 12.0, 12.1, "fail", detail=HOSTILE, wrong=True),
    ]
    history.notes.append((4.0, HOSTILE))
    history.header["command"] = HOSTILE
    history.header["scenario"] = HOSTILE
    history.header["options"]["popularity"] = HOSTILE
    history.header["topology"]["peers"][0]["address"] = HOSTILE
    history.header["versions"]["node"] = HOSTILE
    history.header["checks"].append(HOSTILE)
    _, text = results(history, tmp_path)
    page = Page(text)
    assert "script" not in page.tags
    assert "<script" not in text
    assert not set(text) & set("\u202e\u2066\x00\x1b")
    assert "\\u202e" in text
    assert text.count("</style>") == 1
    assert "a" * 900 not in "".join(page.texts).replace("\n", "") or "more)" in text


def test_invisible_characters_are_spelled_out_and_long_texts_cut() -> None:
    """Ordinary text in any language stays as it is."""
    assert visible("größe 中文 🙂") == "größe 中文 🙂"
    assert visible("a\u200fb\x7f\U000e0041") == "a\\u200fb\\x7f\\U000e0041"
    assert visible("x" * 500, 100) == "x" * 100 + "… (400 more)"


@pytest.mark.parametrize("lines", range(1, 20))
def test_a_history_cut_off_anywhere_still_gives_a_report(lines: int, tmp_path: Path) -> None:
    """A controller may be killed at any moment."""
    made.store(broken(), tmp_path)
    path = tmp_path / "history.jsonl"
    kept = path.read_text().splitlines(keepends=True)[:-1][: lines * lines]
    path.write_text("".join(kept) + '{"r":"op","id":')
    summary = write_results(tmp_path)
    jsonschema.validate(json.loads(json.dumps(summary)), SCHEMA)
    assert summary["exit_code"] == 2
    assert "cut off" in (tmp_path / "report.html").read_text()


def test_a_check_that_this_kit_does_not_have_is_unknown(tmp_path: Path) -> None:
    """A stored run may come from another version."""
    history = made.clean()
    history.header["checks"] = ["durability", "telepathy"]
    summary, _ = results(history, tmp_path)
    assert summary["exit_code"] == 2
    assert "telepathy" in summary["reason"]


def test_many_operations_make_a_small_report(tmp_path: Path) -> None:
    """Pictures are cut down to what can be seen when they are written."""
    history = made.clean()
    history.marks[3].t = 3600.0
    history.ops = [
        made.get(made.KEYS[n % 2], f"peer{1 + n % 4}", 1.0 + n * 0.0359, "ok" if n % 50 else "fail", detail="x")
        for n in range(20_000)
    ]
    results(history, tmp_path)
    assert (tmp_path / "report.html").stat().st_size < 1_000_000
