"""What the fuzzing harnesses share: drawing inputs, the clock, and what must hold whatever the input.

    python tests/fuzz/datagrams.py --runs 1000000 [--seed 1]
    python tests/fuzz/datagrams.py --runs 1000000 --atheris CORPUS      # coverage-guided; needs requirements.in

`make fuzz` runs all of them both ways.  An unhandled or logged error, an input that holds the loop, growing memory
and tables beyond their bounds each end the run with a status that is not 0 and say how to repeat it: the same seed
draws the same inputs, and so does atheris from the same seed and corpus.
"""

from __future__ import annotations

import argparse
import gc
import heapq
import itertools
import random
import resource
import sys
import time
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, Protocol

from twisted.logger import globalLogPublisher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: seconds of CPU that one turn of the loop may take: it serves nobody else meanwhile
MAX_BLOCK: Final = 0.05
#: mebibytes by which a process may grow after its warm-up
MAX_GROWTH: Final = 32.0
#: inputs between two looks at memory and tables, and inputs until everything that fills up has
LOOK: Final = 20_000
WARM_UP: Final = 200_000
#: bytes of the inputs that atheris begins with, and of those that it makes: of a long one it changes mostly what
#: does not matter.  Drawing goes farther.
SHORT: Final = 500
LONG: Final = 4096
#: share of the inputs under atheris that begin with one drawn
DRAWN: Final = 0.25
#: times that code takes longer which tells atheris of every branch and comparison
INSTRUMENTED: Final = 4
#: what atheris is told of: the peer, the parsers in front of it, and what reaches them from the harness.  Not
#: Twisted's event handling, whose coverage changes with the timers and says nothing about an input.
GUIDES: Final = ("kademlia", "twisted.web", "klein", "tomllib", "json", "__main__")


class Finding(Exception):
    """Something does not hold."""


class Target(Protocol):
    """What is fuzzed."""

    def draw(self, rng: random.Random) -> bytes:
        """Return an input that gets further than noise would."""
        ...

    def one(self, data: bytes) -> None:
        """Take one input; raise if anything is wrong."""
        ...

    def rest(self) -> None:
        """Let what the input led to happen."""
        ...

    def check(self) -> dict[str, int]:
        """Raise `Finding` where a table is beyond its bound; return the sizes for the progress report."""
        ...


class Stopwatch:
    """CPU seconds of the turns of a loop: neither other processes nor garbage collections count.

    Asking for the CPU time is a system call, ten times slower than the wall clock.  So it is asked for now and
    then, and when a turn took long by the wall clock: what the process used since bounds what the turn used.
    """

    def __init__(self) -> None:
        self.slowest = 0.0
        self.slowest_turn = ""
        self._collecting = 0.0
        self._collected = 0.0
        self._asked_at = 0.0
        self._used = 0.0
        gc.callbacks.append(self._gc)

    def __str__(self) -> str:
        return f"{self.slowest * 1000:.1f} ms by {self.slowest_turn[:90]}"

    def _gc(self, phase: str, _: object) -> None:
        if phase == "start":
            self._collecting = time.perf_counter()
        else:
            self._collected += time.perf_counter() - self._collecting

    def turn(self, function: Callable[..., object], *args: Any, **kw: Any) -> None:
        """Call, and take the time."""
        before = time.perf_counter()
        if before - self._asked_at > 0.005:
            self._asked_at, self._used, self._collected = before, time.thread_time(), 0.0
        function(*args, **kw)
        if time.perf_counter() - before > self.slowest:
            took = time.thread_time() - self._used - self._collected
            if took > self.slowest:
                self.slowest, self.slowest_turn = took, str(function)


STOPWATCH: Final = Stopwatch()


class _Call:
    """A call that was scheduled."""

    def __init__(
        self, at: float, function: Callable[..., object], args: tuple[Any, ...], kw: dict[str, Any]
    ) -> None:
        self.at = at
        self.function = function
        self.args = args
        self.kw = kw
        self.over = False

    def active(self) -> bool:
        """Tell whether it is still to come."""
        return not self.over

    def cancel(self) -> None:
        """Do not call; let go of what would have been called, as Twisted does: the heap keeps this for long."""
        self.over = True
        self.function, self.args, self.kw = self.active, (), {}

    def getTime(self) -> float:  # noqa: N802
        """Return when it is due."""
        return self.at


class Reactor:
    """A clock on a heap (Twisted's test clock sorts all calls each time), and the UDP port of one protocol."""

    def __init__(self) -> None:
        self._now = 0.0
        self._order = itertools.count()
        self._calls: list[tuple[float, int, _Call]] = []
        #: the latest datagrams sent, for answers to them
        self.sent: list[tuple[bytes, tuple[str, int]]] = []
        self.bytes_sent = 0
        self.maxPacketSize = 8192

    def seconds(self) -> float:
        """Return the time."""
        return self._now

    def callLater(self, delay: float, function: Callable[..., object], *args: Any, **kw: Any) -> _Call:  # noqa: N802
        """Schedule a call."""
        call = _Call(self._now + delay, function, args, kw)
        heapq.heappush(self._calls, (call.at, next(self._order), call))
        return call

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        end = self._now + seconds
        while self._calls and self._calls[0][0] <= end:
            at, _, call = heapq.heappop(self._calls)
            if not call.over:
                self._now = max(self._now, at)
                call.over = True
                STOPWATCH.turn(call.function, *call.args, **call.kw)
        self._now = end

    @property
    def pending(self) -> int:
        """Return how many calls are still to come."""
        return sum(not call.over for _, _, call in self._calls)

    def listenUDP(self, port: int, protocol: Any, interface: str = "", maxPacketSize: int = 8192) -> Reactor:  # noqa: N802, N803
        """Be the port."""
        self.maxPacketSize = maxPacketSize
        self.host, self.port, self._protocol = interface, port, protocol
        protocol.transport = self
        protocol.startProtocol()
        return self

    def getHost(self) -> Reactor:  # noqa: N802
        """Return what has `host` and `port`."""
        return self

    def write(self, datagram: bytes, address: tuple[str, int]) -> None:
        """Keep a request that was sent, as long as there is room."""
        self.bytes_sent += len(datagram)
        if datagram[0] == 0:
            self.sent.append((datagram[:21], address))
            if len(self.sent) > 256:
                del self.sent[:128]

    def stopListening(self) -> None:  # noqa: N802
        """Close."""
        self._protocol.stopProtocol()


class Watch:
    """Holds a target to what must hold of every input."""

    def __init__(self, target: Target, max_block: float) -> None:
        self._target = target
        self._max_block = max_block
        self.runs = 0
        self._errors: list[str] = []
        self._settled: float | None = None
        globalLogPublisher.addObserver(self._observe)

    def one(self, data: bytes) -> None:
        """Take one input."""
        self.runs += 1
        STOPWATCH.turn(self._target.one, data)
        self._target.rest()
        if STOPWATCH.slowest > self._max_block:
            raise Finding(f"the loop was held for {STOPWATCH}")
        self._raise_logged()
        if self.runs % LOOK == 0:
            self.look()

    def look(self) -> dict[str, int]:
        """Hold memory and tables against their bounds."""
        gc.collect()  # a Deferred that nobody looked after reports its failure only now
        self._raise_logged()
        sizes = self._target.check()
        memory = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
        if self.runs >= WARM_UP:
            self._settled = self._settled or memory
            if memory > self._settled + MAX_GROWTH:
                raise Finding(f"memory grew from {self._settled:.0f} to {memory:.0f} MiB; tables: {sizes}")
        return {**sizes, "MiB": round(memory)}

    def _raise_logged(self) -> None:
        if self._errors:
            raise Finding(f"logged: {self._errors[0]}")

    def _observe(self, event: Any) -> None:
        if "log_failure" in event:
            self._errors.append(event["log_failure"].getTraceback())


def main(make: Callable[[], Target]) -> None:
    """Run a harness from the command line."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--runs", type=int, default=100_000)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--max-block", type=float, default=MAX_BLOCK, help="seconds of CPU for one turn")
    arguments.add_argument("--atheris", type=Path, metavar="CORPUS", help="a folder; filled when it is empty")
    options = arguments.parse_args()
    if options.atheris is not None:
        _guided(make(), options)
        return
    watch = Watch(target := make(), options.max_block)
    rng = random.Random(options.seed)
    started = time.monotonic()
    number, data = 0, b""
    try:
        for number in range(options.runs):
            data = target.draw(rng)
            watch.one(data)
            if number % 500_000 == 499_999:
                rate = number / (time.monotonic() - started)
                print(f"{number + 1} inputs, {rate:.0f}/s, {watch.look()}, {STOPWATCH}", flush=True)
        sizes = watch.look()
    except BaseException as error:
        print(f"input {number} of seed {options.seed}: {data.hex()}", file=sys.stderr)
        if not isinstance(error, Finding):
            raise
        raise SystemExit(f"found: {error}") from None
    took = time.monotonic() - started
    print(f"ok: {options.runs} inputs in {took:.0f} s, slowest turn {STOPWATCH}, {sizes}")


def _guided(target: Target, options: argparse.Namespace) -> None:
    """Let atheris choose the inputs, beginning with the corpus; an empty one is filled with inputs drawn."""
    import atheris  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415  (only this way of running needs it)

    corpus: Path = options.atheris
    corpus.mkdir(parents=True, exist_ok=True)
    if not any(corpus.iterdir()):
        rng = random.Random(options.seed)
        short = (data for _ in itertools.count() if len(data := target.draw(rng)) <= SHORT)
        for number, data in enumerate(itertools.islice(short, 500)):
            (corpus / f"drawn-{number}").write_bytes(data)
    guides = list(_guides())
    for function in guides:
        atheris.instrument_func(function)
    print(f"instrumented {len(guides)} functions", flush=True)
    watch = Watch(target, options.max_block * INSTRUMENTED)

    def one(data: bytes) -> None:
        watch.one(data)
        if watch.runs == options.runs:  # libFuzzer ends the process after this one
            print(f"ok: {watch.runs} inputs, slowest turn {STOPWATCH}, {watch.look()}", flush=True)

    def mutate(data: bytes, room: int, seed: int) -> bytes:
        """Return the input changed, or now and then one drawn, changed or not: it gets into what bytes do not."""
        rng = random.Random(seed)
        drawn = target.draw(rng)[:room] if rng.random() < DRAWN else b""
        changed: bytes = drawn if drawn and rng.random() < 0.5 else atheris.Mutate(drawn or data, room)
        return changed

    # A newly found input is kept in the corpus, one with a finding beside it.
    flags = [
        f"-runs={options.runs}",
        f"-seed={options.seed}",
        f"-artifact_prefix={corpus}-",
        f"-max_len={LONG}",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *flags, str(corpus)], one, custom_mutator=mutate)
    atheris.Fuzz()


def _guides() -> Iterator[FunctionType]:
    """Yield the functions, imported by now, whose branches and comparisons guide atheris."""
    for thing in gc.get_objects():
        if isinstance(thing, FunctionType) and f"{thing.__module__}.".startswith(tuple(f"{n}." for n in GUIDES)):
            yield thing
