"""Fetching large values part by part, within bounds that no stranger can widen.

A pull asks one source for the parts of one value, several at a time: the window opens with each answer and is
halved when one is overdue, and all pulls together keep no more parts under way than a socket's buffer takes.  What
arrives is a value only when the last byte is there and the SHA-256 is right; until then nobody sees any of it.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from twisted.internet.defer import Deferred, succeed

from kademlia.parts import PART, Parts, assemble

if TYPE_CHECKING:
    from collections.abc import Callable

    from kademlia.clock import Clock, DelayedCall
    from kademlia.contact import Contact
    from kademlia.records import Value
    from kademlia.rpc import Address, Answer
    from kademlia.stats import PullOutcome, Stats

    #: asks a contact for the part of a value at an offset; the last argument is called when the answer is overdue
    Ask = Callable[[Contact, "Name", int, Callable[[], None]], Deferred[Answer]]

#: parts of one value under way at once
WINDOW: Final = 16
#: parts of all values under way at once: more would overflow the receive buffer that Linux gives a socket
MAX_IN_FLIGHT: Final = 24
#: pulls of which no part has arrived; beyond them the oldest gives way, since an honest source answers at once
MAX_UNANSWERED: Final = 64
#: pulls from one source at once: what a holder that replicates or hands over offers at a time
MAX_PER_SOURCE: Final = 8
#: seconds for a whole pull, so that a source which drips cannot hold memory for long
DEADLINE: Final = 60.0
#: seconds for which a source that sent something else is not asked for that value again
DISTRUST: Final = 600.0
#: distrusted sources remembered
MAX_DISTRUSTED: Final = 1024


class Name(NamedTuple):
    """What is pulled; there is one pull of it at a time, whoever wants it."""

    key: bytes
    version: int
    parts: Parts


class Pull:
    """One large value on its way from one source; made by `Pulls.start`."""

    def __init__(self, pulls: Pulls, name: Name, source: Contact) -> None:
        self.name = name
        self.source = source
        #: bytes of the value that have arrived
        self.received = 0
        #: seconds of life that the last offer of it stated
        self.life = 0.0
        #: whether it may allocate; an offer earns that with its first part
        self.admitted = False
        self.timer: DelayedCall | None = None
        self._pulls = pulls
        self._buffer = bytearray()
        #: offset of the part to ask for next, and of those to ask for again
        self._asked = 0
        self._again: list[int] = []
        self.in_flight = 0
        self._window = 1.0
        self._threshold = float(WINDOW)
        self._recovered = 0
        self._ended = False
        self._value: Value | None = None
        self._waiting: list[Deferred[Value | None]] = []

    def result(self) -> Deferred[Value | None]:
        """Fire with the value once it is there whole, or with None when it will not come from this source."""
        if self._ended:
            return succeed(self._value)
        self._waiting.append(Deferred())
        return self._waiting[-1]

    def ask_next(self) -> bool:
        """Ask for one more part; tell whether there was one to ask for."""
        size = self.name.parts.size
        limit = int(self._window) if self.received else 1
        if self._ended or self.in_flight >= limit or (self._asked >= size and not self._again):
            return False
        if self._again:
            offset = self._again.pop()
        else:
            offset, self._asked = self._asked, self._asked + PART
        self.in_flight += 1
        asked = self._pulls.request(self.source, self.name, offset, partial(self._slow, offset))
        asked.addCallback(self._answered, offset, self.received)
        return True

    def _slow(self, offset: int) -> None:
        if offset >= self._recovered:  # several losses at a time are one sign of a full buffer
            self._recovered = self._asked
            self._window = self._threshold = max(1.0, self._window / 2)

    def _answered(self, answer: Answer, offset: int, received: int) -> None:
        self.in_flight -= 1
        if not self._ended:
            self._take(answer, offset, received)
        self._pulls.ask()

    def _take(self, answer: Answer, offset: int, received: int) -> None:
        part, parts = answer.value, self.name.parts
        if not answer.happened and self.received > received:
            self._again.append(offset)  # other parts came meanwhile: it is the network that loses, not the source
        elif not answer.happened:
            self.end("lost")
        elif part is None:
            self.end("gone")
        elif type(part) is not bytes or len(part) != min(PART, parts.size - offset):
            self._mismatch()
        elif not self.admitted and not self._pulls.admit(self):
            self.end("busy")
        else:
            if not self._buffer:
                self._buffer = bytearray(parts.size)
            self._buffer[offset : offset + len(part)] = part
            self.received += len(part)
            self._pulls.stats.part_bytes["pulled"] += len(part)
            self._window += 1 if self._window < self._threshold else 1 / self._window
            self._window = min(self._window, WINDOW)
            if self.received == parts.size:
                self._complete()

    def _complete(self) -> None:
        value = assemble(self._buffer, self.name.parts)
        if value is None:
            self._mismatch()
        else:
            self.end("whole", value)

    def _mismatch(self) -> None:
        self._pulls.distrust(self.source, self.name)
        self.end("mismatch")

    def end(self, outcome: PullOutcome, value: Value | None = None) -> None:
        """Give up or hand over, and release everything."""
        self._ended, self._value = True, value
        self._buffer = bytearray()
        if self.timer is not None and outcome != "late":
            self.timer.cancel()
        self._pulls.ended(self, outcome)
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.callback(value)


class Pulls:
    """Every pull of a peer.  `budget` is the most bytes being assembled; offers get half of it, readers all."""

    def __init__(self, request: Ask, clock: Clock, stats: Stats, budget: int) -> None:
        self.request = request
        self.stats = stats
        self.budget = budget
        #: bytes being assembled
        self.reserved = 0
        self._clock = clock
        self._running: dict[Name, Pull] = {}
        self._asking = False
        self._distrusted: OrderedDict[tuple[Address, Name], float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._running)

    def running(self, name: Name) -> Pull | None:
        """Return the pull of a value that is under way."""
        return self._running.get(name)

    def start(self, name: Name, source: Contact, *, reading: bool) -> Pull | None:
        """Begin to fetch what is not under way; None where there is no room now.

        What somebody offers allocates nothing until its first part is there, as the offer may be forged.
        """
        running = self._running.values()
        if sum(pull.source.home == source.home for pull in running) >= MAX_PER_SOURCE:
            return None
        if self.reserved + name.parts.size > (self.budget if reading else self.budget // 2):
            return None
        unanswered = [pull for pull in running if not pull.admitted]
        if len(unanswered) >= MAX_UNANSWERED:
            unanswered[0].end("displaced")
        pull = self._running[name] = Pull(self, name, source)
        pull.timer = self._clock.callLater(DEADLINE, pull.end, "late")
        if reading:
            self._reserve(pull)
        self.ask()
        return pull

    def admit(self, pull: Pull) -> bool:
        """Let a pull allocate what it needs, if there is room; its source has shown that it exists."""
        if self.reserved + pull.name.parts.size > self.budget // 2:
            return False
        self._reserve(pull)
        return True

    def _reserve(self, pull: Pull) -> None:
        pull.admitted = True
        self.reserved += pull.name.parts.size

    def ask(self) -> None:
        """Ask for as many parts as may be under way, of all pulls in turn.

        First parts are beside that: sources that do not exist must not hold up those that do.
        """
        # A request may be answered while it is made (there is no transport any more): no recursion then.
        if self._asking:
            return
        self._asking = True
        progress = True
        while progress:
            progress = False
            in_flight = sum(pull.in_flight for pull in self._running.values() if pull.received)
            for pull in list(self._running.values()):
                if (in_flight < MAX_IN_FLIGHT or not pull.received) and pull.ask_next():
                    progress = True
                    in_flight += pull.received > 0
        self._asking = False

    def ended(self, pull: Pull, outcome: PullOutcome) -> None:
        """Forget a pull."""
        self.stats.pulls[outcome] += 1
        del self._running[pull.name]
        if pull.admitted:
            self.reserved -= pull.name.parts.size

    def distrust(self, source: Contact, name: Name) -> None:
        """Do not take this value from that source again."""
        self._distrusted[source.home, name] = self._clock.seconds() + DISTRUST
        if len(self._distrusted) > MAX_DISTRUSTED:
            self._distrusted.popitem(last=False)

    def trusts(self, source: Contact, name: Name) -> bool:
        """Tell whether a source has not sent something else under this name lately."""
        return self._distrusted.get((source.home, name), -1.0) < self._clock.seconds()

    def stop(self) -> None:
        """End all of them."""
        for pull in list(self._running.values()):
            pull.end("cancelled")
