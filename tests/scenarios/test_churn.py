"""Distributions and the churn process: right means, and the same seed gives the same schedule."""

import json
import random
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenarios.churn import churn_spells, parse_distribution
from scenarios.churn.process import default_min_live
from scenarios.library import SCENARIOS
from scenarios.scenario import Setting
from scenarios.testbed.model import Peer, Topology

NAMES = [f"peer{n}" for n in range(1, 9)]


@settings(max_examples=60, deadline=None)
@given(
    family=st.sampled_from(["fixed:{m}", "exponential:{m}", "weibull:{s},{m}", "pareto:{p},{m}", "uniform:0,{m}"]),
    mean=st.floats(0.01, 10_000),
    shape=st.floats(0.7, 5),
    tail=st.floats(2.5, 10),
    seed=st.integers(0, 2**32),
)
def test_sampled_times_have_the_mean_that_was_asked_for(
    family: str, mean: float, shape: float, tail: float, seed: int
) -> None:
    """Scales are derived from the mean correctly (shapes with a finite variance, so that samples can tell)."""
    distribution = parse_distribution(family.format(m=mean, s=shape, p=tail))
    rng = random.Random(seed)
    samples = [distribution.draw(rng) for _ in range(4000)]
    error = 6 * statistics.pstdev(samples) / len(samples) ** 0.5
    # A Pareto tail near 2.5 converges slowly: its own spread is underestimated by a sample.
    assert statistics.fmean(samples) == pytest.approx(distribution.mean, abs=3 * error + 1e-5 * mean)
    assert min(samples) >= 0


@settings(max_examples=30, deadline=None)
@given(sigma=st.floats(0.05, 2), median=st.floats(0.01, 1000), seed=st.integers(0, 2**32))
def test_lognormal_is_given_by_its_median(sigma: float, median: float, seed: int) -> None:
    """Measurements report medians of session times."""
    distribution = parse_distribution(f"lognormal:{sigma},{median}")
    rng = random.Random(seed)
    below = sum(distribution.draw(rng) < median for _ in range(4000))
    assert 4000 * 0.45 < below < 4000 * 0.55


@pytest.mark.parametrize(
    "text",
    [
        "exponential", "exponential:", "exponential:0", "exponential:-1", "exponential:nan", "exponential:inf",
        "exponential:1,2", "weibull:60", "weibull:0,60", "weibull:-1,60", "weibull:nan,60", "weibull:0.5,-60",
        "weibull:0.001,60", "pareto:1,60", "pareto:0.9,60", "pareto:inf,60", "lognormal:0,60", "lognormal:1,0",
        "lognormal:1,2,3", "uniform:5,1", "uniform:-1,1", "uniform:1", "fixed:abc", "normal:1,2", "", ":", "60",
    ],
)  # fmt: skip
def test_an_impossible_distribution_is_refused_in_one_line(text: str) -> None:
    """Each error says how to write it, or which parameter is impossible."""
    with pytest.raises(ValueError, match=r"\w") as caught:
        parse_distribution(text)
    assert "\n" not in str(caught.value)


@given(
    st.sampled_from(
        ["exponential:2m", "weibull:0.5,60", "pareto:1.5,60s", "lognormal:1,5", "uniform:1,2", "fixed:9"]
    )
)
def test_the_text_of_a_distribution_reads_back_as_itself(text: str) -> None:
    """The results hold the text: it must mean the same distribution later."""
    distribution = parse_distribution(text)
    again = parse_distribution(distribution.text)
    assert again.text == distribution.text
    assert again.draw(random.Random(5)) == distribution.draw(random.Random(5))


def spells(seed: str, names: list[str] = NAMES, min_live: int = 3, until: float = 300.0):
    return churn_spells(
        names, parse_distribution("weibull:0.5,20"), parse_distribution("exponential:10"),
        until=until, min_live=min_live, seed=seed,
    )  # fmt: skip


def test_the_same_seed_gives_the_same_schedule_byte_for_byte() -> None:
    """A failed run can be repeated."""
    topology = Topology("fake", tuple(Peer(n, "h", "127.0.0.1", 1, 1) for n in NAMES), 3, 3, "demo")
    scenario = SCENARIOS["churn"]

    def schedule(seed: int) -> str:
        plan = scenario.plan(Setting(scenario.read({"session": "weibull:0.5,20"}), topology, 3, seed, 40.0))
        return json.dumps([step.as_data() for step in plan.steps])

    assert schedule(7) == schedule(7)
    assert schedule(7) != schedule(8)


def test_adding_a_peer_leaves_the_draws_of_the_others_alone() -> None:
    """Each peer has a generator of its own (no constraint on live peers here: it couples them)."""
    few = spells("1", NAMES[:4], min_live=0)
    many = spells("1", NAMES, min_live=0)
    assert few == [spell for spell in many if spell.peer in NAMES[:4]]


@settings(max_examples=50, deadline=None)
@given(seed=st.text(max_size=5), min_live=st.integers(0, 7))
def test_never_fewer_than_min_live_peers_are_up(seed: str, min_live: int) -> None:
    """The constraint holds at every moment, and a peer is never gone twice at once."""
    events = []
    back: dict[str, float] = {}
    for spell in spells(seed, min_live=min_live):
        assert spell.gone >= back.get(spell.peer, 0.0)
        assert spell.back >= spell.gone
        back[spell.peer] = spell.back
        events += [(spell.gone, -1), (spell.back, 1)]
    live = len(NAMES)
    for _, change in sorted(events):
        live += change
        assert live >= min_live


@given(peers=st.integers(2, 200), ksize=st.integers(1, 50))
def test_the_default_of_min_live_keeps_a_network_and_lets_it_churn(peers: int, ksize: int) -> None:
    """Somebody can always leave, somebody always stays, and half of the peers do."""
    least = default_min_live(peers, ksize)
    assert 1 <= least <= peers - 1
    assert least >= min(peers // 2, peers - 1)
