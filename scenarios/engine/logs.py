"""Copy the peers' logs beside the results."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from scenarios.errors import TestbedError

if TYPE_CHECKING:
    from pathlib import Path

    from scenarios.testbed.model import Provider, Topology


def copy_logs(provider: Provider, topology: Topology, folder: Path) -> str:
    """Write `<peer>.log` for every peer, rotated files joined; return "" or a sentence on what is missing."""
    folder.mkdir(exist_ok=True)
    missing: list[str] = []
    for peer in topology.peers:
        try:
            with (folder / f"{peer.name}.log").open("wb") as joined:
                for part in provider.log_files(peer):
                    with part.open("rb") as log:
                        shutil.copyfileobj(log, joined)
        except (OSError, TestbedError) as error:
            missing.append(f"{peer.name} ({error})")
    return f"logs are missing of {', '.join(missing)}" if missing else ""
