"""Show the peers' logs, and follow them."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from scenarios.testbed.model import Peer, Provider


def last_lines(files: Sequence[Path], count: int) -> list[str]:
    """Return the last `count` lines of a log that is spread over files, oldest first."""
    lines: deque[str] = deque(maxlen=count)
    for path in files:
        with path.open(encoding="utf-8", errors="replace") as log:
            lines.extend(line.rstrip("\n") for line in log)
    return list(lines)


def follow(provider: Provider, peers: Sequence[Peer], every: float = 0.2) -> Iterator[tuple[Peer, str]]:
    """Yield lines as they are written, for ever; survives rotation."""
    positions = {peer.name: _size(provider, peer) for peer in peers}
    while True:
        for peer in peers:
            files = provider.log_files(peer)
            if not files:
                continue
            position = positions[peer.name]
            if files[-1].stat().st_size < position:
                position = 0  # rotated: what was written since is in the new file
            with files[-1].open("rb") as log:
                log.seek(position)
                text = log.read()
            whole = text.rpartition(b"\n")[0]
            positions[peer.name] = position + (len(whole) + 1 if whole else 0)
            for line in whole.splitlines():
                yield peer, line.decode(errors="replace")
        time.sleep(every)


def _size(provider: Provider, peer: Peer) -> int:
    files = provider.log_files(peer)
    return files[-1].stat().st_size if files else 0
