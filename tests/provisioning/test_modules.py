"""The role's own modules: what they compute, without Ansible."""

from __future__ import annotations

import shutil
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playing import role_module

if TYPE_CHECKING:
    from pathlib import Path

config = role_module("kademlia_config")
wheels = role_module("kademlia_wheels")

PARAMS: dict[str, Any] = {
    "config_dir": "/c",
    "data_dir": "/d",
    "bootstrap": ["127.0.0.1:8468"],
    "settings": {"ksize": 20, "alpha": 3, "intervals": {"refresh": 1.5}, "storage": "sqlite", "log_level": "info"},
    "overrides": {"peer2": {"alpha": 4, "intervals": {"expire": 9}}},
    "control": True,
}


def peer(name: str) -> dict[str, Any]:
    return {"name": name, "address": "127.0.0.1", "udp_port": 8468, "http_port": 8080}


def test_a_peers_configuration_is_what_the_node_expects() -> None:
    """Tables and keys of docs/architecture.md."""
    assert tomllib.loads(config.toml(config.peer_document(PARAMS, peer("peer1")))) == {
        "node": {
            "address": "127.0.0.1",
            "port": 8468,
            "bootstrap": ["127.0.0.1:8468"],
            "data_dir": "/d/peer1",
            "ksize": 20,
            "alpha": 3,
        },
        "intervals": {"refresh": 1.5},
        "http": {"address": "127.0.0.1", "port": 8080},
        "storage": {"kind": "sqlite"},
        "control": {"token_file": "/c/control.token"},
        "log": {"level": "info"},
    }


def test_an_override_changes_one_peer_only() -> None:
    """The others keep what all have."""
    first, second = (config.peer_document(PARAMS, peer(name)) for name in ("peer1", "peer2"))
    assert (first["node"]["alpha"], second["node"]["alpha"]) == (3, 4)
    assert (first["intervals"], second["intervals"]) == ({"refresh": 1.5}, {"expire": 9})


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_survives_the_way_through_toml(text: str) -> None:
    """Quotes, backslashes, control characters, everything."""
    assert tomllib.loads(f"x = {config.toml_value(text)}") == {"x": text}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"overrides": {"peer1": {"alfa": 4}}}, "unknown setting 'alfa'; known: ksize"),
        ({"overrides": {"peer1": 4}}, "must be a mapping"),
        ({"settings": {"colour": 1}}, "unknown setting 'colour'"),
    ],
)
def test_unknown_settings_are_named(change: dict[str, Any], words: str) -> None:
    """With those that exist."""
    assert words in config.check_names({**PARAMS, **change})


def test_a_node_is_built_again_only_for_its_sources(tmp_path: Path) -> None:
    """Caches, logs and builds that lie in its folder are no sources."""
    source = tmp_path / "node"
    (source / "kademlia" / "__pycache__").mkdir(parents=True)
    (source / "build").mkdir()
    for name in ("pyproject.toml", "kademlia/a.py"):
        (source / name).write_text("")
    before = wheels.sources(str(source))
    for name in ("kademlia/__pycache__/a.pyc", "build/a.py", "twistd.log", "requirements.lock", ".cache"):
        (source / name).write_text("")
    assert wheels.sources(str(source)) == before == [source / "kademlia/a.py", source / "pyproject.toml"]
    shutil.rmtree(source)
