"""The fuzzing harnesses themselves: they run, and they find what is there to be found.

What needs atheris is skipped where `make fuzz` has not installed it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NODE = HERE.parents[1] / "node"
ATHERIS = HERE.parents[1] / ".venv-fuzz/bin/python"
HARNESSES = {"datagrams": "Datagrams", "http_requests": "Requests", "configuration": "Configuration"}

needs_atheris = pytest.mark.skipif(not ATHERIS.exists(), reason="atheris is installed by make fuzz")


def run(script: Path, *options: object, python: Path | str = sys.executable) -> subprocess.CompletedProcess[str]:
    """Run a harness; one that atheris guides finds the node by its path."""
    return subprocess.run(
        [python, script, *map(str, options)],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={**os.environ, "PYTHONPATH": str(NODE)},
    )


def planted(folder: Path, name: str, fault: str) -> Path:
    """Return the script of a harness whose peer has a fault."""
    script = folder / "planted.py"
    lines = [
        f"import sys; sys.path.insert(0, {str(HERE)!r})",
        f"import harness, {name}",
        "from kademlia import config, deadlines, errors, keeper, protocol, storage",
        "from kademlia.web import api, site",
        "from twisted.web import http",
        "harness.LOOK = 1000",
        textwrap.dedent(fault),
        f"harness.main({name}.{HARNESSES[name]})",
    ]
    script.write_text("\n".join(lines), encoding="utf-8")
    return script


@pytest.mark.parametrize("name", HARNESSES)
def test_a_short_run_finds_nothing(name: str) -> None:
    """And says what it did; a long run differs by its number only."""
    done = run(HERE / f"{name}.py", "--runs", "3000", "--max-block", "2")  # other processes are at work here
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ok: 3000 inputs")


FAULTS = [
    ("datagrams", "protocol.KademliaProtocol.rpc_stun = lambda self, sender: {}[sender]", "logged: Traceback"),
    (
        "datagrams",
        "datagrams.MAX_KEYS = 50; datagrams.MemoryStorage = lambda keys, size: storage.MemoryStorage()",
        "keys; the bound is 50",
    ),
    (
        "datagrams",
        "datagrams.UNDER_WAY = 200; deadlines.Deadlines._due = lambda self: None",
        "calls; the bound is 200",
    ),
    (
        "datagrams",
        """
        import time
        def get(self, key, good=keeper.Keeper.get):
            until = time.thread_time() + 0.5 * (key[:1] == b"x")
            while time.thread_time() < until: pass
            return good(self, key)
        keeper.Keeper.get = get
        """,
        "the loop was held",
    ),
    ("http_requests", "api._nested = lambda counts: 1 // 0", "HTTP/1.1 500"),
    (
        "http_requests",
        "site.PeerChannel.connectionLost = http.HTTPChannel.connectionLost",
        "connections are",
    ),
    (
        "configuration",
        """
        def load(file, good=configuration.load_settings):
            settings = good(file)
            return {"text": settings}[settings.log_format]
        configuration.load_settings = load
        """,
        "KeyError: 'json'",
    ),
    (
        "configuration",
        """
        def load(file):
            raise errors.ConfigurationError("no")
        configuration.load_settings = load
        """,
        "a refusal that does not help",
    ),
    (
        "configuration",
        """
        kept = []
        def load(file, good=configuration.load_settings):
            kept.append(open(file))
            return good(file)
        configuration.load_settings = load
        """,
        "left behind",
    ),
]


@pytest.mark.parametrize(("name", "fault", "found"), FAULTS)
def test_a_fault_of_the_peer_is_found(tmp_path: Path, name: str, fault: str, found: str) -> None:
    """Of every kind that a harness looks for."""
    done = run(planted(tmp_path, name, fault), "--runs", 20_000, "--max-block", 0.4)
    assert done.returncode == 1, done.stdout
    assert found in done.stderr


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


@needs_atheris
@pytest.mark.parametrize(("name", "fault", "found"), [FAULTS[0], FAULTS[4], FAULTS[6]])
def test_a_fault_of_the_peer_is_found_under_atheris(tmp_path: Path, name: str, fault: str, found: str) -> None:
    """Of each harness one; the input that led to it is kept."""
    script = planted(tmp_path, name, fault)
    options = ("--runs", 20_000, "--max-block", 2, "--atheris", tmp_path / "corpus")
    done = run(script, *options, python=ATHERIS)
    assert done.returncode not in (0, 1), done.stderr
    assert found in done.stdout + done.stderr
    assert list(tmp_path.glob("corpus-crash-*"))


@needs_atheris
def test_atheris_finds_what_is_not_found_by_drawing(tmp_path: Path) -> None:
    """Eight bytes, of which the first four show in comparisons and in coverage only."""
    script = tmp_path / "target.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(HERE)!r})\n"
        + textwrap.dedent(
            """
            import harness

            class Target:
                def draw(self, rng):
                    return rng.randbytes(8)

                def one(self, data):
                    if data[:4] == b"deep":
                        if data[4:8] == b"down":
                            raise KeyError("both")

                def rest(self):
                    pass

                def check(self):
                    return {}

            harness.main(Target)
            """
        ),
        encoding="utf-8",
    )
    drawn = run(script, "--runs", 200_000)
    assert drawn.returncode == 0, drawn.stderr
    guided = run(script, "--runs", 2_000_000, "--atheris", tmp_path / "corpus", python=ATHERIS)
    assert "KeyError: 'both'" in guided.stdout + guided.stderr
    (kept,) = tmp_path.glob("corpus-crash-*")
    assert kept.read_bytes()[:8] == b"deepdown"


@needs_atheris
@pytest.mark.parametrize("name", HARNESSES)
def test_coverage_grows_from_the_drawn_inputs_on(tmp_path: Path, name: str) -> None:
    """That of the peer's own modules: hardly anything else is instrumented."""
    options = ("--runs", 5000, "--max-block", 2, "--atheris", tmp_path / "corpus")
    done = run(HERE / f"{name}.py", *options, python=ATHERIS)
    assert done.returncode == 0, done.stderr
    assert "\nok: 5000 inputs" in done.stdout
    first, last = (int(re.findall(rf"{event} +cov: (\d+)", done.stderr)[0]) for event in ("INITED", "DONE"))
    assert 300 < first < last


@needs_atheris
@pytest.mark.parametrize("name", HARNESSES)
def test_every_module_of_the_peer_that_is_loaded_is_instrumented(tmp_path: Path, name: str) -> None:
    """A module that is imported later would be blind spots."""
    script = tmp_path / "modules.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(HERE)!r})\n"
        f"import harness, {name}\n"
        "from types import FunctionType\n"
        f"target = {name}.{HARNESSES[name]}()\n"
        "ours = {f.__module__ for f in harness._guides()}\n"
        "for number in range(50): target.one(target.draw(__import__('random').Random(number))); target.rest()\n"
        "loaded = {n for n, m in sys.modules.items() if n.startswith('kademlia.')"
        " and any(isinstance(v, FunctionType) and v.__module__ == n for v in vars(m).values())}\n"
        "print(len(ours), sorted(loaded - ours))\n",
        encoding="utf-8",
    )
    done = run(script, python=ATHERIS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(" []\n"), done.stdout
