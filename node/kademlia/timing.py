"""How long to wait for a peer: an estimate of its round-trip time and of how much that varies."""

from __future__ import annotations

from collections import OrderedDict

#: seconds; RFC 6298 section 2.4 asks for 1 s to suit TCP's acknowledgement delays, which we do not have.  100 ms
#: spares a peer that a busy machine keeps from running for a few scheduler turns.
MINIMUM = 0.1
MAXIMUM = 2.0
#: seconds to wait for a peer never measured, when no other was measured either
INITIAL = 0.5
#: peers remembered
CAPACITY = 4096
#: a late answer's time since the first sending, times this, is waited for from then on: round trips vary
LATENESS = 1.5


class RoundTrip:
    """Smoothed round-trip time and variation of one peer (Jacobson's algorithm, RFC 6298 section 2)."""

    __slots__ = ("smoothed", "timeout", "variation")

    def __init__(self, sample: float) -> None:
        self.smoothed = sample
        self.variation = sample / 2
        #: seconds after which an answer is overdue
        self.timeout = min(MAXIMUM, max(MINIMUM, 3 * sample))

    def observe(self, sample: float) -> None:
        """Take in one measured round trip, in seconds."""
        error = sample - self.smoothed
        self.variation += ((error if error > 0 else -error) - self.variation) / 4
        self.smoothed += error / 8
        timeout = self.smoothed + 4 * self.variation
        self.timeout = MINIMUM if timeout < MINIMUM else min(timeout, MAXIMUM)


class RoundTrips:
    """Estimates by address; the addresses heard least recently are forgotten beyond `CAPACITY`.

    All samples together make an estimate for peers never measured: on one network they are much alike, and where
    they are not, the variation says so.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, int], RoundTrip] = OrderedDict()
        self._anybody: RoundTrip | None = None
        # Seconds to wait for peers that answered, but only ever late.
        self._late: OrderedDict[tuple[str, int], float] = OrderedDict()

    def observe(self, address: tuple[str, int], sample: float) -> None:
        """Take in a round trip that is certain, that is of a request sent only once (Karn's algorithm)."""
        if self._anybody is None:
            self._anybody = RoundTrip(sample)
        else:
            self._anybody.observe(sample)
        known = self._known.get(address)
        if known is None:
            self._known[address] = RoundTrip(sample)
            self._late.pop(address, None)
            if len(self._known) > CAPACITY:
                self._known.popitem(last=False)
        else:
            known.observe(sample)
            if len(self._known) > CAPACITY // 2:  # before that nobody asks for the order
                self._known.move_to_end(address)

    def late(self, address: tuple[str, int], elapsed: float) -> None:
        """Take in an answer that came `elapsed` seconds after the first of several sendings of its request.

        It is no sample (Karn's algorithm), but the round trip took no longer.  So that much is waited for that
        peer, and for peers never measured, until a certain sample says better: a peer that has become slower than
        its time-out would never yield one otherwise.  RFC 6298 (5.5) backs off at silence already; here the dead
        are more frequent than those who become slow, and would be noticed ever later.
        """
        wait = min(MAXIMUM, max(MINIMUM, LATENESS * elapsed))
        known = self._known.get(address)
        if known is not None:
            known.timeout = max(known.timeout, wait)
        else:
            self._late[address] = max(self._late.get(address, 0.0), wait)
            if len(self._late) > CAPACITY:
                self._late.popitem(last=False)
        if self._anybody is not None:
            self._anybody.timeout = max(self._anybody.timeout, wait)

    def timeout(self, address: tuple[str, int]) -> float:
        """Return seconds to wait for that address before sending again."""
        known = self._known.get(address)
        if known is not None:
            return known.timeout
        late = self._late.get(address)
        if late is not None:
            return late
        return INITIAL if self._anybody is None else self._anybody.timeout

    def get(self, address: tuple[str, int]) -> RoundTrip | None:
        """Return the estimate for an address, if it was ever measured."""
        return self._known.get(address)
