"""A peer's state file: enough to come back as the same peer among the same neighbours.  JSON, never pickle."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from kademlia.contact import is_address
from kademlia.errors import StateFileError
from kademlia.ids import ID_BYTES

FORMAT = "kademlia-state-1"
#: how a pickled dict begins: in protocol 2 and later, in 0 (the default of Python 2), in 1; no JSON does
_PICKLED = (b"\x80", b"(", b"}")


@dataclass(frozen=True, slots=True)
class State:
    """What a state file holds."""

    ksize: int
    alpha: int
    id: bytes
    neighbours: list[tuple[str, int]]


def save(path: str | Path, state: State) -> None:
    """Write the file whole or not at all; raises `StateFileError`."""
    target = Path(path)
    data = {
        "format": FORMAT,
        "ksize": state.ksize,
        "alpha": state.alpha,
        "id": state.id.hex(),
        "neighbours": [list(neighbour) for neighbour in state.neighbours],
    }
    temporary = target.with_name(f"{target.name}.new")
    try:
        temporary.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        temporary.replace(target)
    except OSError as error:
        raise StateFileError(f"cannot write the state file {target}: {error.strerror}") from None


def load(path: str | Path) -> State:
    """Read and check a state file; raises `StateFileError` and says why it is refused."""
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise StateFileError(f"cannot read the state file {path}: {error.strerror}") from None
    if raw[:1] in _PICKLED:
        raise StateFileError(
            f"{path} is a pickle, as kademlia 2 wrote it; loading one runs whatever code it contains, so it is "
            f"refused.  Bootstrap from a known peer instead and save the state again."
        )
    try:
        data = json.loads(raw)
        if data["format"] != FORMAT:
            raise ValueError(f"its format is {data['format']!r}, not {FORMAT!r}")
        node_id = bytes.fromhex(data["id"])
        neighbours = [(address, port) for address, port in data["neighbours"]]
        ksize, alpha = data["ksize"], data["alpha"]
        sound = (
            len(node_id) == ID_BYTES
            and all(type(number) is int and number > 0 for number in (ksize, alpha))
            and all(is_address(a) and type(p) is int and 0 < p < 65536 for a, p in neighbours)
        )
        if not sound:
            raise ValueError("a field has an impossible value")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StateFileError(f"{path} is not a state file of this program: {error}") from None
    return State(ksize, alpha, node_id, neighbours)
