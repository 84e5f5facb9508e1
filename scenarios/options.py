"""Options of a scenario as data: name, default, help, and a parser whose error is one clear line."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scenarios.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_DURATION = re.compile(r"(?P<number>[0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)(?P<unit>ms|s|m|h|d)?", re.IGNORECASE)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True)
class Option:
    """One command-line option; a boolean default makes it a flag."""

    name: str
    default: str | bool
    help: str
    #: turns the text into the value; raises `ValueError` whose text completes "--name=text: …"
    parse: Callable[[str], Any] = str

    def read(self, given: object) -> Any:
        """Return the value of what was given; raises `UsageError` naming the option."""
        if isinstance(self.default, bool):
            return bool(given)
        text = str(given).strip()
        try:
            return self.parse(text)
        except ValueError as error:
            raise UsageError(f"--{self.name}={text}: {error}") from None


def read_options(options: Iterable[Option], given: Mapping[str, object]) -> dict[str, Any]:
    """Return the value of every option by its name; None and absent mean the default.

    Raises `UsageError` for an impossible value and for a name that no option has.
    """
    known = {option.name: option for option in options}
    for name in given:
        if name not in known:
            raise UsageError(f"no option --{name}; there are {', '.join('--' + n for n in sorted(known))}")
    values: dict[str, Any] = {}
    for name, option in known.items():
        value = given.get(name)
        values[name] = option.read(option.default if value is None else value)
    return values


def number(text: str) -> float:
    """Return a finite number; raises `ValueError` otherwise."""
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value


def duration(text: str) -> float:
    """Return seconds from `90`, `90s`, `2m`, `1.5h`, `250ms`; raises `ValueError` unless greater than 0."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError("give a duration greater than 0, as 90, 90s, 2m or 1h")
    seconds = float(match["number"]) * _SECONDS[(match["unit"] or "s").lower()]
    if not 0 < seconds <= 366 * 86400:
        raise ValueError("give a duration greater than 0 and at most a year")
    return seconds


def optional(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a parser for which the empty text is None."""
    return lambda text: None if text == "" else parse(text)


def whole(low: int, high: int = 10**9) -> Callable[[str], int]:
    """Return a parser of a whole number between `low` and `high`, both included."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,12}", text) or not low <= int(text) <= high:
            raise ValueError(f"give a whole number from {low} to {high}")
        return int(text)

    return parse


def between(low: float, high: float, *, open_low: bool = False) -> Callable[[str], float]:
    """Return a parser of a number from `low` (excluded when `open_low`) to `high`."""

    def parse(text: str) -> float:
        value = number(text)
        if not low <= value <= high or (open_low and value == low):
            raise ValueError(
                f"give a number {'greater than' if open_low else 'from'} {low:g} "
                f"{'and at most' if open_low else 'to'} {high:g}"
            )
        return value

    return parse


def seed(text: str) -> int:
    """Return a seed: a whole number from 0 to 2**63 - 1."""
    if not re.fullmatch(r"[0-9]{1,19}", text) or int(text) >= 2**63:
        raise ValueError("give a whole number from 0 to 2^63 - 1")
    return int(text)
