"""The state folder: records that survive a crash, paths that fit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scenarios.errors import TestbedError as Failed
from scenarios.errors import UsageError
from scenarios.testbed.settings import changed_settings
from scenarios.testbed.state import Current, StateFolder, write_atomically


def test_a_damaged_record_is_reported_with_what_to_do(tmp_path: Path) -> None:
    """Not a traceback of the JSON parser."""
    folder = StateFolder(tmp_path)
    folder.current_file.write_text("{")
    with pytest.raises(Failed, match="run `fab testbed"):
        folder.read()


def test_a_write_that_fails_leaves_the_old_text_and_nothing_else(tmp_path: Path) -> None:
    """A text that cannot be encoded is found out in the middle of writing."""
    path = tmp_path / "current.json"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "new \udcff")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o077 == 0


def test_a_long_path_moves_the_socket_to_a_short_private_folder(tmp_path: Path) -> None:
    """A Unix socket's path holds 108 bytes."""
    short, long = StateFolder(Path("/tmp/x")), StateFolder(tmp_path / ("x" * 100))  # noqa: S108 - nothing is made
    assert short.socket.parent == short.supervisor
    assert long.socket.parent == long.runtime
    assert len(os.fsencode(long.socket)) < 100


def test_changed_variables_are_checked_and_can_be_taken_back(tmp_path: Path) -> None:
    """k, α and profile are settings of the declaration; other variables of the role are kept beside them."""
    folder = StateFolder(tmp_path)
    folder.write(Current({"peers": 2}))
    changed = changed_settings(folder, {"kademlia_ksize": 5, "kademlia_log_level": "debug"})
    assert changed == Current({"peers": 2, "ksize": 5}, {"kademlia_log_level": "debug"})
    folder.write(changed)
    assert changed_settings(folder, {"kademlia_ksize": None, "kademlia_log_level": None}) == Current({"peers": 2})
    with pytest.raises(UsageError, match="no variable 'kademlia_kszie'"):
        changed_settings(folder, {"kademlia_kszie": 5})
    with pytest.raises(UsageError, match="ksize must be"):
        changed_settings(folder, {"kademlia_ksize": 0})


@pytest.mark.parametrize(
    ("name", "words"), [("{{ x }}", "a template"), ("a\nb", "a template"), ("file", "is no folder")]
)
def test_a_state_folder_that_can_never_be_one_is_refused(
    name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before Ansible, or the file system, says so in words of its own."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TESTBED_STATE", str(tmp_path / name))
    with pytest.raises(Failed, match=words):
        StateFolder.default()
