"""The fuzzing harnesses themselves: they run, and they find what is there to be found."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def run(script: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, script, *options], capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.parametrize("name", ["datagrams", "http_requests", "configuration"])
def test_a_short_run_finds_nothing(name: str) -> None:
    """And says what it did; a long run differs by its number only."""
    done = run(HERE / f"{name}.py", "--runs", "3000", "--max-block", "2")  # other processes are at work here
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ok: 3000 inputs")


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("raise KeyError('unhandled')", "unhandled"),
        ("log.failure('broken', Failure(KeyError('logged')))", "logged"),
        ("fail(KeyError('forgotten'))", "forgotten"),
        ("deadline = time.thread_time() + 0.2\nwhile time.thread_time() < deadline: pass", "the loop was held"),
        ("clock.callLater(0, lambda: sum(range(10_000_000)))", "the loop was held"),
        ("kept.append(bytearray(8 << 20)) if harness.WARM_UP < number[0] else None", "memory grew"),
        ("kept.extend(range(3000))", "a table beyond its bound"),
    ],
)
def test_what_does_not_hold_is_found(tmp_path: Path, body: str, found: str) -> None:
    """Status 1, and the seed and input that lead there again."""
    script = tmp_path / "target.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(HERE)!r})\n"
        + textwrap.dedent(
            """
            import time
            import harness
            from twisted.internet.defer import fail
            from twisted.logger import Logger
            from twisted.python.failure import Failure

            harness.LOOK, harness.WARM_UP = 10, 20
            log, clock, kept, number = Logger(), harness.Reactor(), [], [0]

            class Target:
                def draw(self, rng):
                    return rng.randbytes(3)

                def one(self, data):
                    number[0] += 1
                    if number[0] % 5 == 0:
                        misbehave()

                def rest(self):
                    clock.advance(1)

                def check(self):
                    if len(kept) > 10_000:
                        raise harness.Finding("a table beyond its bound")
                    return {}

            def misbehave():
            """
        )
        + textwrap.indent(body, "    ")
        + "\n\nharness.main(Target)\n",
        encoding="utf-8",
    )
    done = run(script, "--runs", "100", "--seed", "7")
    assert done.returncode == 1, done.stdout
    assert found in done.stderr
    assert "of seed 7: " in done.stderr
