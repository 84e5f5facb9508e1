"""Faults on purpose: a shim between protocol and transport that loses, delays and blocks datagrams."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from kademlia.errors import ConfigurationError
from kademlia.tables import Address, parse_address

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

#: longest delay and jitter, in seconds
MAX_DELAY: Final = 60.0
#: datagrams held back at once; more are lost, as in a full router queue
MAX_HELD: Final = 10_000

_SETTINGS: Final = ("loss", "delay", "jitter", "blocked")


class FaultShim:
    """What this peer's network does to its datagrams.

    Loss, delay and jitter act on what the peer sends, as netem does on an interface, so that the same setting on
    every peer hits each datagram once.  Blocking acts in both directions.
    """

    def __init__(self, rng: random.Random, reactor: Any) -> None:
        self._rng = rng
        self._reactor = reactor
        self._held: set[Any] = set()
        #: whether datagrams must come through here at all
        self.active = False
        self.loss = 0.0
        self.delay = 0.0
        self.jitter = 0.0
        self.blocked: frozenset[Address] = frozenset()

    def configure(self, settings: dict[str, Any]) -> None:
        """Replace all settings; those not given are off.

        `loss`: share of datagrams lost, 0 to 1.  `delay`: seconds each is held back, give or take up to `jitter`
        seconds.  `blocked`: "address:port" of the peers cut off.  Raises `ConfigurationError` and changes nothing
        when one is impossible.
        """
        for name in settings:
            if name not in _SETTINGS:
                raise ConfigurationError(f"unknown fault {name!r}; there are {', '.join(_SETTINGS)}")
        loss = _number(settings, "loss", 1.0)
        delay = _number(settings, "delay", MAX_DELAY)
        jitter = _number(settings, "jitter", MAX_DELAY)
        blocked = _peers(settings.get("blocked", []))
        self.loss, self.delay, self.jitter, self.blocked = loss, delay, jitter, blocked
        self.active = bool(loss or delay or jitter or blocked)

    def clear(self) -> None:
        """Turn all faults off; datagrams still held back are lost."""
        self.configure({})
        for call in self._held:
            call.cancel()
        self._held.clear()

    def as_json(self) -> dict[str, object]:
        """Return the settings in the form that `configure` takes."""
        blocked = [f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}" for ip, port in sorted(self.blocked)]
        return {"loss": self.loss, "delay": self.delay, "jitter": self.jitter, "blocked": blocked}

    def outgoing(self, data: bytes, address: Address, send: Callable[[bytes, Address], object]) -> None:
        """Hand a datagram to `send`, now, later or never."""
        if address[:2] in self.blocked or (self.loss and self._rng.random() < self.loss):
            return
        wait = self.delay + self._rng.uniform(-self.jitter, self.jitter)
        if wait <= 0:
            send(data, address)
        elif len(self._held) < MAX_HELD:

            def release() -> None:
                self._held.discard(call)
                send(data, address)

            call = self._reactor.callLater(wait, release)
            self._held.add(call)

    def incoming(self, data: bytes, address: Address, deliver: Callable[[bytes, Address], object]) -> None:
        """Hand a received datagram to `deliver`, unless its sender is cut off."""
        if address[:2] not in self.blocked:
            deliver(data, address)


def _number(settings: dict[str, Any], name: str, high: float) -> float:
    value = settings.get(name, 0.0)
    if type(value) not in (int, float) or not 0 <= value <= high:
        raise ConfigurationError(f"fault {name!r} must be a number from 0 to {high:g}, not {value!r}")
    return float(value)


def _peers(entries: object) -> frozenset[Address]:
    if not isinstance(entries, list):
        raise ConfigurationError(f"fault 'blocked' must be a list of \"address:port\", not {entries!r}")
    try:
        return frozenset(parse_address(str(entry)) for entry in entries)
    except ValueError as error:
        raise ConfigurationError(f"fault 'blocked' must be a list of \"address:port\": {error}") from None
