"""Every check passes clean histories and catches what was planted for it."""

import itertools

import made
import pytest

from scenarios.checks import CHECKS, INVALID, UNKNOWN, VALID, NoCheck, Result, judge, overall
from scenarios.history import History, PeerState
from scenarios.report.summary import summarise


def verdict(name: str, history: History) -> Result:
    (result,) = judge([CHECKS[name]], history)
    return result


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_a_clean_history_is_valid(name: str) -> None:
    """A check that fails good runs is not believed."""
    result = verdict(name, made.clean())
    assert result.verdict == VALID, result
    assert result.evidence == []


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_an_empty_history_is_unknown(name: str) -> None:
    """Nothing seen is nothing shown."""
    assert verdict(name, History(made.header())).verdict == UNKNOWN


def test_a_lost_key_is_found_and_named() -> None:
    """It was acknowledged, and no read returned it afterwards."""
    history = made.clean()
    history.ops = [op for op in history.ops if op.phase != "verify" or op.key != made.KEYS[1]]
    history.ops += [
        made.get(made.KEYS[1], peer, 12.8, "fail", phase="verify", status=404, detail="not found")
        for peer in ("peer2", "peer3")
    ]
    result = verdict("durability", history)
    assert result.verdict == INVALID
    assert made.KEYS[1] in result.headline
    assert made.KEYS[0] not in result.headline
    (evidence,) = result.evidence
    assert evidence.key == made.KEYS[1]
    assert "not found" in evidence.text


def test_a_key_read_at_the_second_attempt_is_kept() -> None:
    """The settle window is there for that; the report says so."""
    history = made.clean()
    late = made.get(made.KEYS[1], "peer2", 12.55, "fail", phase="verify")
    history.ops.insert(-1, late)
    result = verdict("durability", history)
    assert result.verdict == VALID
    assert ("not at the first attempt", "1") in result.facts


@pytest.mark.parametrize("phase", ["workload", "verify"])
def test_wrong_bytes_are_corruption_at_any_moment(phase: str) -> None:
    """That a later read is right does not undo a wrong answer."""
    history = made.clean()
    history.ops.insert(
        50,
        made.get(
            made.KEYS[0], "peer4", 4.0, "fail", phase=phase, wrong=True, detail="its value with changed bytes"
        ),
    )
    result = verdict("durability", history)
    assert result.verdict == INVALID
    assert "wrong bytes" in result.headline
    assert result.evidence[0].peer == "peer4"


def test_keys_that_were_never_read_back_leave_durability_unknown() -> None:
    """An interrupted run shows nothing about them."""
    history = made.clean()
    history.ops = [op for op in history.ops if op.phase != "verify"]
    assert verdict("durability", history).verdict == UNKNOWN


@pytest.mark.parametrize("outcome", ["fail", "unknown"])
def test_a_put_that_was_not_acknowledged_promises_nothing(outcome: str) -> None:
    """It may be there or not."""
    history = made.clean()
    history.ops.append(made.put("run/9", "peer1", 5.0, outcome, phase="workload"))
    assert verdict("durability", history).verdict == VALID


def test_too_many_failed_gets_make_availability_invalid() -> None:
    """Six of 106 are more than the 5 % that may fail."""
    history = made.clean()
    history.ops += [made.get(made.KEYS[0], "peer2", 6.0 + n / 10, "fail", detail="timeout") for n in range(6)]
    result = verdict("availability", history)
    assert result.verdict == INVALID
    assert result.evidence_total == 6
    assert "94.34 %" in result.headline


def test_gets_on_a_peer_that_is_being_killed_are_not_held_against_the_network() -> None:
    """That the killed peer answers nobody is the fault itself."""
    history = made.clean()
    history.states += [PeerState(5.0, "peer4", "killed"), PeerState(8.0, "peer4", "up")]
    history.ops += [made.get(made.KEYS[0], "peer4", 4.995, "fail", detail="reset") for _ in range(50)]
    result = verdict("availability", history)
    assert result.verdict == VALID
    assert ("gets cut off by faults", "50") in result.facts


def test_missed_starts_are_reported() -> None:
    """The client could not keep its rate: the reader must know."""
    history = made.clean()
    history.missed = [(3.0, 1), (3.1, 1)]
    assert ("starts missed", "2") in verdict("availability", history).facts


def test_a_key_missing_on_one_of_its_closest_peers_is_named_with_that_peer() -> None:
    """A copy elsewhere does not make up for it."""
    history = made.clean()
    right = made.closest_two(made.KEYS[0])
    others = [name for name in made.NODES if name not in right]
    holders = {key: made.closest_two(key) for key in made.KEYS} | {made.KEYS[0]: [right[0], *others]}
    history.censuses = [made.census(12.0, holders)]
    result = verdict("replication", history)
    assert result.verdict == INVALID
    assert result.evidence[0].key == made.KEYS[0]
    assert result.evidence[0].peer == right[1]


def test_more_copies_than_wanted_are_no_fault() -> None:
    """Caches and former holders may keep theirs."""
    history = made.clean()
    history.censuses = [made.census(12.0, {key: list(made.NODES) for key in made.KEYS})]
    assert verdict("replication", history).verdict == VALID


def test_a_key_without_any_copy_is_named_first() -> None:
    """It is the worst of all."""
    history = made.clean()
    short = made.closest_two(made.KEYS[0])[:1]
    history.censuses = [made.census(12.0, {made.KEYS[0]: short, made.KEYS[1]: []})]
    result = verdict("replication", history)
    assert result.verdict == INVALID
    assert result.evidence[0].key == made.KEYS[1]
    assert "no copy left" in result.headline


def test_a_peer_that_did_not_say_what_it_holds_leaves_replication_unknown() -> None:
    """It may hold what is missing."""
    history = made.clean()
    history.censuses = [made.census(12.0, {key: list(made.NODES) for key in made.KEYS}, silent=("peer2",))]
    assert verdict("replication", history).verdict == UNKNOWN


def test_only_the_last_full_census_is_judged() -> None:
    """Before it, the network was still at work; its repair time is a fact, not a failure."""
    history = made.clean()
    before = made.census(5.0, {made.KEYS[0]: made.closest_two(made.KEYS[0])[:1]}, full=False)
    history.censuses.insert(0, before)
    result = verdict("replication", history)
    assert result.verdict == VALID
    assert dict(result.facts)["time to repair"].startswith("7.0 s")


class Raises:
    """A check with a defect."""

    name = "broken"

    def judge(self, history: History) -> Result:
        """Fail."""
        raise KeyError(history.header["run"])


def test_a_check_that_raises_is_unknown_with_its_traceback_and_exit_status_2() -> None:
    """Never valid: a check that crashed has shown nothing."""
    history = made.clean()
    results = judge([*CHECKS.values(), Raises()], history)
    assert results[-1].verdict == UNKNOWN
    assert "KeyError" in results[-1].headline
    assert "in judge" in results[-1].evidence[0].text
    summary = summarise(history, results)
    assert (summary["verdict"], summary["exit_code"]) == (UNKNOWN, 2)


def test_the_verdict_of_a_run_is_the_worst_of_its_checks() -> None:
    """Invalid before unknown before valid, and nothing at all is unknown."""
    for verdicts in itertools.product([VALID, INVALID, UNKNOWN], repeat=2):
        results = [Result("x", one, "") for one in verdicts]
        expected = INVALID if INVALID in verdicts else UNKNOWN if UNKNOWN in verdicts else VALID
        assert overall(results) == expected
    assert overall([]) == UNKNOWN
    assert NoCheck().judge(made.clean()).verdict == VALID


def test_a_run_that_failed_is_unknown_whatever_its_checks_say() -> None:
    """A network that could not be healed proves nothing about durability."""
    history = made.clean()
    history.marks[-1].what, history.marks[-1].detail = "fail", "not back 60 s after healing: peer3"
    summary = summarise(history, judge(CHECKS.values(), history))
    assert (summary["verdict"], summary["exit_code"]) == (UNKNOWN, 2)
    assert "peer3" in summary["reason"]
