"""The history survives what happens to its writer."""

from pathlib import Path

import made
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenarios.errors import HistoryError
from scenarios.history import HistoryWriter, Op, load
from scenarios.history.model import Fault


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    """Every field of every record, with the line that it stands in."""
    history = made.clean()
    history.faults.append(Fault("kill", "inject", "peer1", 2.0, 2.1, ok=False, detail="no such process"))
    again = made.store(history, tmp_path)
    for name in ("ops", "faults", "states", "marks", "censuses"):
        written, read = getattr(history, name), getattr(again, name)
        for item in read:
            assert item.line > 1
            item.line = 0
        assert read == written
    assert not again.torn


@pytest.mark.parametrize("cut", [1, 2, 20])
def test_a_last_line_that_was_cut_off_is_tolerated(tmp_path: Path, cut: int) -> None:
    """A controller that was killed while it wrote leaves everything before that line."""
    whole = made.store(made.clean(), tmp_path)
    path = tmp_path / "history.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    torn = load(path)
    assert torn.torn
    assert torn.marks == whole.marks[:-1]
    assert torn.ops == whole.ops


def test_a_broken_line_in_the_middle_is_an_error_that_names_it(tmp_path: Path) -> None:
    """Only the end of a file can be torn by a crash; anything else is damage."""
    made.store(made.clean(), tmp_path)
    path = tmp_path / "history.jsonl"
    lines = path.read_text().splitlines()
    lines[4] = lines[4][:10]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(HistoryError, match="line 5"):
        load(path)


@pytest.mark.parametrize("content", ["", '{"r":"op"}\n', '{"r":"header","version":99}\n', "[]\n", "hello\n"])
def test_what_is_no_history_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    """Empty, without a header, from a newer kit, or something else altogether."""
    path = tmp_path / "history.jsonl"
    path.write_text(content)
    with pytest.raises(HistoryError) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_a_put_without_an_end_is_unknown(tmp_path: Path) -> None:
    """The run was killed while it was in flight: it may have taken effect."""
    with HistoryWriter(tmp_path / "history.jsonl", made.header()) as writer:
        writer.invoked(1, "run/1", 0, "peer1", 2.0)
        writer.invoked(2, "run/2", 0, "peer1", 2.0)
        writer.op(Op(2, "put", "run/2", "peer1", "workload", 2.0, 2.0, 2.5, "ok"))
    history = load(tmp_path / "history.jsonl")
    assert {op.key: op.outcome for op in history.ops} == {"run/1": "unknown", "run/2": "ok"}
    assert set(history.acknowledged()) == {"run/2"}


def test_every_line_is_in_the_file_before_the_next_is_written(tmp_path: Path) -> None:
    """Nothing waits in a buffer of the process."""
    writer = HistoryWriter(tmp_path / "history.jsonl", made.header())
    for n in range(3):
        writer.note(float(n), "x")
        assert len(load(tmp_path / "history.jsonl").notes) == n + 1
    writer.close()


@given(key=st.text(max_size=30), detail=st.text(max_size=30))
def test_any_text_survives(tmp_path_factory: pytest.TempPathFactory, key: str, detail: str) -> None:
    """Line separators, surrogates and quotes do not break lines."""
    folder = tmp_path_factory.mktemp("h")
    with HistoryWriter(folder / "history.jsonl", made.header()) as writer:
        writer.op(Op(1, "get", key, "peer1", "workload", 0.0, 0.0, 1.0, "fail", detail=detail))
    (op,) = load(folder / "history.jsonl").ops
    assert (op.key, op.detail) == (key, detail)
