"""Measure ours beside PyPI's kademlia and OpenDHT, and print a Markdown table.

    python bench/run.py [--repetitions 3] [--only ours,kademlia,opendht] [--json FILE]

Each implementation runs in an environment and in processes of its own.  They take turns, so that whatever else the
machine does meets all of them.  The exit status is 1 when one of them failed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import table

HERE = Path(__file__).resolve().parent
#: implementation: its programs with their arguments; the adapters are also told the size of the work
PROGRAMS = {
    "ours": (
        ("adapter_ours.py", "workload"),
        ("adapter_ours.py", "blocked"),
        ("adapter_ours.py", "memory"),
        ("idle.py",),
        ("rpc.py", "ours"),
        ("rpc.py", "kademlia"),
        ("rpc.py", "echo"),
    ),
    "kademlia": (
        ("adapter_kademlia.py", "workload"),
        ("adapter_kademlia.py", "blocked"),
        ("adapter_kademlia.py", "memory"),
    ),
    "opendht": (("adapter_opendht.py", "workload"), ("adapter_opendht.py", "memory")),
}
ENVIRONMENTS = {"ours": ".venv", "kademlia": ".venv-stock", "opendht": ".venv-opendht"}
#: seconds after which a program is ended
DEADLINE = 480.0


class MeasurementFailed(Exception):
    """A program did not come to its end."""


def measure(python: Path, arguments: list[str]) -> dict[str, dict[str, float]]:
    """Run one program and return its figures by implementation."""
    with subprocess.Popen(  # noqa: S603  (our own programs)
        [python, *arguments], cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as program:
        try:
            output, errors = program.communicate(timeout=DEADLINE)
        except subprocess.TimeoutExpired:
            raise MeasurementFailed(f"did not end within {DEADLINE:.0f} s") from None
        finally:
            if program.poll() is None:
                os.killpg(program.pid, signal.SIGKILL)  # with what it started
    if program.returncode:
        raise MeasurementFailed(errors.decode(errors="replace").strip()[-2000:])
    figures: dict[str, dict[str, float]] = json.loads(output.splitlines()[-1])
    return figures


def machine() -> dict[str, str]:
    """Return what the figures depend on."""
    cpu = (
        Path("/proc/cpuinfo")
        .read_text(encoding="utf-8")
        .partition("model name")[2]
        .partition("\n")[0]
        .strip(" :\t")
    )
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],  # noqa: S607
        cwd=HERE,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "commit": commit.stdout.strip(),
        "cpu": f"{cpu or platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "kernel": f"{platform.system()} {platform.release()}",
    }


def parse() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--only", default=",".join(PROGRAMS), help="implementations, with commas")
    parser.add_argument("--peers", type=int, default=100)
    parser.add_argument("--keys", type=int, default=200)
    parser.add_argument("--dead-keys", type=int, default=40, help="operations of each phase with 30 %% killed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="where to write every figure of every repetition")
    for name, default in ENVIRONMENTS.items():
        variable = f"BENCH_{name.upper()}"
        default = os.environ.get(variable, default)  # noqa: PLW2901
        parser.add_argument(f"--{name}", type=Path, default=default, help=f"its environment, or ${variable}")
    options = parser.parse_args()
    options.only = options.only.split(",")
    for name in options.only:
        if name not in PROGRAMS:
            parser.error(f"--only: {name} is none of {', '.join(PROGRAMS)}")
        if not (getattr(options, name) / "bin/python").exists():
            parser.error(f"{getattr(options, name)}: no environment there; `make bench` makes it")
    return options


def main() -> int:
    """Run everything; return the exit status."""
    options = parse()
    size = [
        f"--{name}={getattr(options, name.replace('-', '_'))}" for name in ("peers", "keys", "dead-keys", "seed")
    ]
    results: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    failed = False
    for repetition in range(options.repetitions):
        for name in options.only:
            python = getattr(options, name).absolute() / "bin/python"
            for script, *arguments in PROGRAMS[name]:
                print(f"repetition {repetition + 1}: {' '.join([script, *arguments])}", file=sys.stderr)
                try:
                    sized = size if script.startswith("adapter") else []
                    measured = measure(python, [script, *arguments, *sized])
                except MeasurementFailed as error:
                    failed = True
                    print(f"{script}: {error}", file=sys.stderr)
                    continue
                for whose, figures in measured.items():
                    for figure, value in figures.items():
                        results[whose][figure].append(value)
    about = machine()
    print(f"{' · '.join(about.values())} · {options.repetitions} repetitions, {' '.join(size)}\n")
    print(table.render(results))
    if options.json is not None:
        options.json.write_text(json.dumps({"machine": about, "size": size, "results": results}, indent=1) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
