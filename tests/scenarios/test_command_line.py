"""`fab`: what is listed, and one clear line with exit status 2 for what is wrong."""

import io
import subprocess
import sys
from pathlib import Path

import made
import pytest
from rich.console import Console

from scenarios.engine.display import Status, display_for
from scenarios.library import SCENARIOS
from scenarios.testbed.cli import reports_errors

ROOT = Path(__file__).resolve().parents[2]


def fab(*words: str, state: Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).with_name("fab")), *words],
        cwd=cwd, text=True, capture_output=True, timeout=60, check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(state), "TESTBED_STATE": str(state / "testbed"),
             "LANG": "C.UTF-8"},
    )  # fmt: skip


def test_every_scenario_is_listed(tmp_path: Path) -> None:
    """With a line that says what it does."""
    listed = fab("--list", state=tmp_path)
    assert listed.returncode == 0
    for name in SCENARIOS:
        assert f"scenario.{name}" in listed.stdout
    assert "demo" in listed.stdout


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device", "/some/file"), "fab: /some/file: No space left on device\n"),
        (ZeroDivisionError("oops"), "ZeroDivisionError: oops\n"),
    ],
)
def test_a_crash_never_exits_with_the_status_of_lost_data(
    error: Exception, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """1 is what a check says of data; a crash says nothing of it."""

    @reports_errors
    def body() -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        body()
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith(said)


def test_a_run_that_is_refused_leaves_the_cursor_visible() -> None:
    """The bar hides it, and starts only when there is something to show."""
    terminal = Console(file=io.StringIO(), force_terminal=True)
    display = display_for(terminal)
    display.say("deploying")
    assert "\x1b[?25l" not in terminal.file.getvalue()  # type: ignore[attr-defined]
    display.update(Status("preflight", 0.0, 30.0, True, 0.0, 0, 0, 0, None, 8))
    display.close()
    written = terminal.file.getvalue()  # type: ignore[attr-defined]
    assert written.count("\x1b[?25l") == written.count("\x1b[?25h") == 1
    assert "asking 8 peers" in written
    assert "0/8" not in written


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_help_lists_every_option_of_a_scenario(name: str, tmp_path: Path) -> None:
    """Nothing can be given that is not explained."""
    shown = fab("--help", f"scenario.{name}", state=tmp_path).stdout
    for option in SCENARIOS[name].all_options():
        assert f"--{option.name}" in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("scenario.churn", "--sesion=fixed:1"), "did you mean --session"),
        (("scenario.churm",), "did you mean scenario.churn"),
        (("scenario.churn", "--rate=-5"), "--rate=-5"),
        (("scenario.churn", "--rate"), "needed value"),
        (("scenario.churn", "--session=pareto:0.5,10"), "--session=pareto:0.5,10"),
        (("scenario.churn", "--k=0"), "--k=0"),
        (("scenario.churn", "--seed=x"), "--seed=x"),
        (("scenario.replication", "--victims=nobody"), "--victims=nobody"),
        (("scenario.churn",), "fab testbed.up"),
        (("-H", "a,b", "scenario.churn"), "-H/--hosts"),
        (("-H", "a", "demo"), "-H/--hosts"),
        (("demo", "--duration=never"), "--duration=never"),
        (("results.report", "/nowhere"), "no stored run"),
        (("results.check", "."), "no stored run"),
    ],
)
def test_a_wrong_command_is_one_clear_line_and_exit_status_2(
    words: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    """No traceback, nothing touched, and never 1: that would mean that data was lost."""
    done = fab(*words, state=tmp_path)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.startswith("fab: ")
    assert done.stdout == ""
    assert not (tmp_path / "testbed").exists()


@pytest.mark.parametrize(("spoil", "status"), [(False, 0), (True, 1)])
def test_a_stored_run_can_be_judged_again_without_a_network(spoil: bool, status: int, tmp_path: Path) -> None:
    """The exit status is that of its verdict, and the last lines name verdict and report."""
    history = made.clean()
    if spoil:
        history.ops[-1].outcome = "fail"
    made.store(history, tmp_path)
    done = fab("results.check", str(tmp_path), state=tmp_path)
    assert done.returncode == status, done.stderr
    *_, verdict, report = done.stdout.strip().splitlines()
    assert verdict.split() == ["verdict", "INVALID" if spoil else "VALID"]
    assert report.split() == ["report", str(tmp_path / "report.html")]
    assert fab("results.report", str(tmp_path / "report.html"), state=tmp_path).returncode == 0
