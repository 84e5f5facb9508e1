"""Histories made by hand: one clean run of two keys, and ways to spoil it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scenarios.history import History, HistoryWriter, Mark, Op, PeerState, load
from scenarios.history.model import Census
from scenarios.probes.placement import Placement, closest, node_numbers
from scenarios.workload.keys import key_digest

if TYPE_CHECKING:
    from pathlib import Path

NODES = {"peer1": "0" * 40, "peer2": "4" + "0" * 39, "peer3": "8" + "0" * 39, "peer4": "c" + "0" * 39}
KEYS = ("run/0", "run/1")


def header(**more: Any) -> dict[str, Any]:
    """Return a header as the engine writes it."""
    peers = [
        {"name": name, "host": "here", "address": "127.0.59.1", "udp_port": 1, "http_port": n}
        for n, name in enumerate(NODES, start=1)
    ]
    return {
        "run": "churn-1", "scenario": "churn", "summary": "s", "description": "d", "seed": 1, "wall": 1e9,
        "options": {"availability": 0.95, "k": 2, "keys": 2, "duration": 10.0}, "command": "fab scenario.churn",
        "topology": {"provider": "fake", "peers": peers, "ksize": 2, "alpha": 3, "profile": "test"},
        "checks": ["durability", "availability", "replication"], "versions": {"python": "3.11"}, **more,
    }  # fmt: skip


def get(key: str, peer: str, t: float, outcome: str = "ok", *, phase: str = "workload", **more: Any) -> Op:
    """Return a get that took 10 ms."""
    return Op(int(t * 1000), "get", key, peer, phase, t, t, round(t + 0.01, 6), outcome, **more)


def put(key: str, peer: str, t: float, outcome: str = "ok", *, phase: str = "preload") -> Op:
    """Return a put that took 10 ms."""
    return Op(int(t * 1000), "put", key, peer, phase, t, t, round(t + 0.01, 6), outcome, replicas=2)


def closest_two(key: str) -> list[str]:
    """Return the two peers that should hold a key."""
    return closest(node_numbers(NODES), int(key_digest(key), 16), 2)


def census(t: float, holders: dict[str, list[str]], *, full: bool = True, silent: tuple[str, ...] = ()) -> Census:
    """Return a census with these holders."""
    nodes = {name: node for name, node in NODES.items() if name not in silent}
    holders = {key: [name for name in held if name in nodes] for key, held in holders.items()}
    placement = Placement(holders, holders, nodes, 2)
    return Census(
        t, t + 0.1, nodes, list(silent), len(holders), 2, placement.placed, placement.copies,
        list(placement.missing), holders if full else None,
    )  # fmt: skip


def clean() -> History:
    """Return a run in which everything went well."""
    history = History(header())
    history.states = [PeerState(0.0, name, "up") for name in NODES]
    history.marks = [Mark(0.0, "preload", "begin"), Mark(1.0, "preload", "end"), Mark(1.0, "workload", "begin"),
                     Mark(11.0, "workload", "end"), Mark(11.0, "settle", "begin"), Mark(13.0, "settle", "end"),
                     Mark(13.1, "run", "end")]  # fmt: skip
    history.ops = [put(key, "peer1", 0.5 + n / 10) for n, key in enumerate(KEYS)]
    history.ops += [get(KEYS[n % 2], "peer2", 1.0 + n / 10) for n in range(100)]
    history.ops += [get(key, "peer3", 12.5 + n / 10, phase="verify") for n, key in enumerate(KEYS)]
    history.censuses = [census(12.0, {key: closest_two(key) for key in KEYS})]
    return history


def store(history: History, folder: Path) -> History:
    """Write a history with the engine's writer and read it back."""
    with HistoryWriter(folder / "history.jsonl", history.header) as writer:
        for state in history.states:
            writer.state(state.t, state.peer, state.state)
        *phases, end = history.marks
        for mark in phases:
            writer.mark(mark.t, mark.phase, mark.what, mark.detail)
        for op in history.ops:
            writer.op(op)
        for fault in history.faults:
            writer.fault(fault)
        for one in history.censuses:
            writer.census(one)
        for t, text in history.notes:
            writer.note(t, text)
        writer.mark(end.t, end.phase, end.what, end.detail)
    return load(folder / "history.jsonl")
