"""Options: what a person may write, and what they are told when it is impossible."""

import pytest

from scenarios.errors import UsageError
from scenarios.library import SCENARIOS
from scenarios.options import duration, seed


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("2m", 120), ("1.5h", 5400), ("250ms", 0.25), (".5", 0.5)]
)
def test_durations_may_carry_units(text: str, seconds: float) -> None:
    """A bare number means seconds."""
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "-1", "0", "nan", "inf", "1e999", "5 s", "s", "1e", "2w", "0ms", "1_0"])
def test_impossible_durations_are_refused(text: str) -> None:
    """Nothing that is not a time greater than 0 gets through."""
    with pytest.raises(ValueError, match="duration"):
        duration(text)


@pytest.mark.parametrize("text", ["-1", "1.5", "abc", str(2**63)])
def test_impossible_seeds_are_refused(text: str) -> None:
    """A seed is a whole number that every reader can hold."""
    with pytest.raises(ValueError, match="whole number"):
        seed(text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rate", "-5"), ("rate", "0"), ("rate", "nan"), ("rate", "fast"), ("keys", "0"), ("keys", "1.5"),
        ("keys", "-3"), ("reads", "1.1"), ("k", "0"), ("value-size", "10"), ("timeout", "0"), ("seed", "-1"),
        ("session", "exponential:-1"), ("session", "normal:3"), ("downtime", "pareto:1,10"), ("min-live", "-1"),
        ("popularity", "zipf:x"), ("availability", "95"), ("settle", "soon"),
    ],
)  # fmt: skip
def test_an_impossible_option_is_refused_in_one_line_that_names_it(name: str, text: str) -> None:
    """The line begins with what the user wrote."""
    with pytest.raises(UsageError) as caught:
        SCENARIOS["churn"].read({name: text})
    assert str(caught.value).startswith(f"--{name}={text}: ")
    assert "\n" not in str(caught.value)


def test_an_option_that_no_scenario_has_is_refused() -> None:
    """A misspelt option must not be ignored."""
    with pytest.raises(UsageError, match="--sesion"):
        SCENARIOS["churn"].read({"sesion": "fixed:1"})


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_the_defaults_of_every_scenario_can_be_read(name: str) -> None:
    """A default is parsed like anything that a user gives."""
    assert SCENARIOS[name].read({})["duration"] > 0


@pytest.mark.parametrize("text", ["none", "0", "-1", "", "all,", "one-by-one;all"])
def test_impossible_victims_are_refused(text: str) -> None:
    """Stages have names, or are numbers of 1 or more."""
    with pytest.raises(UsageError, match="--victims"):
        SCENARIOS["replication"].read({"victims": text})
