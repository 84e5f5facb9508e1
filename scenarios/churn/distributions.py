"""Distributions of session and down times.

Every family but `fixed` and `uniform` is parametrised by its *mean* (lognormal: by its median), because that
is what measurements report; scale parameters follow from it.  Sources for shapes one may want to try:
Weibull 0.34 to 0.59 for BitTorrent sessions (Stutzbach and Rejaie, 2006); session medians of 2.4 min for Kazaa
and 60 min for Gnutella (as collected by Rhea et al., 2004).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scenarios.options import duration, number

if TYPE_CHECKING:
    import random
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Distribution:
    """A distribution of times in seconds."""

    #: as the user wrote it, normalised: reading it again gives the same distribution
    text: str
    #: expected value in seconds
    mean: float
    draw: Callable[[random.Random], float]

    def __str__(self) -> str:
        return self.text


def _fixed(value: float) -> Distribution:
    return Distribution(f"fixed:{value:g}", value, lambda _rng: value)


def _exponential(mean: float) -> Distribution:
    return Distribution(f"exponential:{mean:g}", mean, lambda rng: rng.expovariate(1.0 / mean))


def _weibull(shape: float, mean: float) -> Distribution:
    scale = mean / math.gamma(1.0 + 1.0 / shape)
    return Distribution(f"weibull:{shape:g},{mean:g}", mean, lambda rng: rng.weibullvariate(scale, shape))


def _pareto(shape: float, mean: float) -> Distribution:
    smallest = mean * (shape - 1.0) / shape
    return Distribution(f"pareto:{shape:g},{mean:g}", mean, lambda rng: smallest * rng.paretovariate(shape))


def _lognormal(sigma: float, median: float) -> Distribution:
    mu = math.log(median)
    mean = median * math.exp(sigma * sigma / 2.0)
    return Distribution(f"lognormal:{sigma:g},{median:g}", mean, lambda rng: rng.lognormvariate(mu, sigma))


def _uniform(low: float, high: float) -> Distribution:
    if low > high:
        raise ValueError(f"the low end {low:g} is above the high end {high:g}")
    return Distribution(f"uniform:{low:g},{high:g}", (low + high) / 2.0, lambda rng: rng.uniform(low, high))


def _shape(name: str, low: float, high: float, why: str = "") -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = number(text)
        if not low < value <= high:
            raise ValueError(f"a {name} must be greater than {low:g} and at most {high:g}{why}")
        return value

    return parse


def _low_end(text: str) -> float:
    return 0.0 if text in {"0", "0s", "0.0"} else duration(text)


#: family -> (how it is written, parser of each parameter, what makes it).  The limits of shapes keep away from
#: tails so heavy that no run is long enough to see anything.
_FAMILIES: dict[str, tuple[str, tuple[Callable[[str], float], ...], Callable[..., Distribution]]] = {
    "fixed": ("fixed:SECONDS", (duration,), _fixed),
    "exponential": ("exponential:MEAN", (duration,), _exponential),
    "weibull": ("weibull:SHAPE,MEAN", (_shape("Weibull shape", 0.1, 100), duration), _weibull),
    "pareto": (
        "pareto:SHAPE,MEAN",
        (_shape("Pareto shape", 1, 100, ": there is no mean with a smaller one"), duration),
        _pareto,
    ),
    "lognormal": ("lognormal:SIGMA,MEDIAN", (_shape("sigma", 0, 10), duration), _lognormal),
    "uniform": ("uniform:LOW,HIGH", (_low_end, duration), _uniform),
}


def parse_distribution(text: str) -> Distribution:
    """Return the distribution of `family:parameter,…`; times may carry units (`exponential:2m`).

    Raises `ValueError` for an unknown family, the wrong number of parameters, and impossible ones.
    """
    family, colon, rest = text.partition(":")
    if family not in _FAMILIES:
        raise ValueError(f"no such distribution; write {', '.join(form for form, _, _ in _FAMILIES.values())}")
    form, parsers, make = _FAMILIES[family]
    parts = [part.strip() for part in rest.split(",")] if colon else []
    if len(parts) != len(parsers):
        raise ValueError(f"write {form}")
    values = []
    for part, parse in zip(parts, parsers, strict=True):
        try:
            values.append(parse(part))
        except ValueError as error:
            raise ValueError(f"{part!r} is impossible in {form}: {error}") from None
    return make(*values)
