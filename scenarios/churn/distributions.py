"""Distributions of session and down times.

Every family but `fixed` and `uniform` is parametrised by its *mean* (lognormal: by its median), because that
is what measurements report; scale parameters follow from it.  Sources for shapes one may want to try:
Weibull 0.34 to 0.59 for BitTorrent sessions (Stutzbach and Rejaie, 2006); session medians of 2.4 min for Kazaa
and 60 min for Gnutella (as collected by Rhea et al., 2004).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scenarios.options import duration, number

if TYPE_CHECKING:
    import random


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
    return Distribution(f"uniform:{low:g},{high:g}", (low + high) / 2.0, lambda rng: rng.uniform(low, high))


#: family -> what its parameters are called
FAMILIES = {
    "fixed": "fixed:SECONDS",
    "exponential": "exponential:MEAN",
    "weibull": "weibull:SHAPE,MEAN",
    "pareto": "pareto:SHAPE,MEAN",
    "lognormal": "lognormal:SIGMA,MEDIAN",
    "uniform": "uniform:LOW,HIGH",
}


def parse_distribution(text: str) -> Distribution:  # noqa: C901 - one branch a family
    """Return the distribution of `family:parameter,…`; times may carry units (`exponential:2m`).

    Raises `ValueError` for an unknown family, the wrong number of parameters, and impossible ones.
    """
    family, colon, rest = text.partition(":")
    family = family.strip().lower()
    if family not in FAMILIES:
        raise ValueError(f"no such distribution; write {', '.join(FAMILIES.values())}")
    parameters = [part.strip() for part in rest.split(",")] if colon else []
    if len(parameters) != FAMILIES[family].count(",") + 1 or "" in parameters:
        raise ValueError(f"write {FAMILIES[family]}")
    *first, last = parameters
    try:
        time = duration(last)
    except ValueError as error:
        raise ValueError(f"{last!r}: {error}") from None
    if family == "fixed":
        return _fixed(time)
    if family == "exponential":
        return _exponential(time)
    if family == "uniform":
        try:
            low = 0.0 if number_or_none(first[0]) == 0 else duration(first[0])
        except ValueError as error:
            raise ValueError(f"{first[0]!r}: {error}") from None
        if low > time:
            raise ValueError(f"the low end {first[0]} is above the high end {last}")
        return _uniform(low, time)
    shape = number(first[0])
    # Below 0.1 the tail is so heavy that Gamma overflows long before a run could show anything.
    if family == "weibull":
        if not 0.1 <= shape <= 100:
            raise ValueError(f"the shape {first[0]} is impossible here: a Weibull shape lies between 0.1 and 100")
        return _weibull(shape, time)
    if family == "pareto":
        if not 1 < shape <= 100:
            raise ValueError(f"the shape {first[0]} is impossible here: a Pareto distribution has a mean "
                             "only where its shape is greater than 1 (and at most 100 here)")
        return _pareto(shape, time)
    if not 0 < shape <= 10:
        raise ValueError(f"the sigma {first[0]} is impossible here: it must be greater than 0 and at most 10")
    return _lognormal(shape, time)


def number_or_none(text: str) -> float | None:
    """Return the number that the text is, or None."""
    try:
        return number(text)
    except ValueError:
        return None
