"""What the README promises, tried as a reader would."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[int]:
    """Run a peer on 127.0.0.1 and return its UDP port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
        udp.bind(("127.0.0.1", 0))
        tcp.bind(("127.0.0.1", 0))
        port, http = udp.getsockname()[1], tcp.getsockname()[1]
    config = tmp_path / "peer.toml"
    config.write_text(
        f'[node]\naddress = "127.0.0.1"\nport = {port}\ndata_dir = "data"\n[http]\nport = {http}\n',
        encoding="utf-8",
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "twisted", "--log-format=text", "kademlia", "--config", str(config)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if "PeerSite starting" in line or "Starting reactor" in line:
                break
        with urlopen(f"http://127.0.0.1:{http}/status", timeout=10) as answer:
            assert answer.status == 200
        yield port
    finally:
        process.terminate()
        process.communicate()


def test_the_program_of_the_readme_sets_and_gets_a_value(peer: int, tmp_path: Path) -> None:
    """Copied out of the page and run as it stands."""
    match = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert match
    program = tmp_path / "example.py"
    program.write_text(match[1], encoding="utf-8")
    run = subprocess.run(
        [sys.executable, str(program), "127.0.0.1", str(peer)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert run.stdout == "Key result: my awesome value\n"


def test_every_fab_command_of_the_pages_exists() -> None:
    """A command that is named is one that can be typed."""
    fab = Path(sys.executable).with_name("fab")
    run = subprocess.run([str(fab), "--list"], cwd=ROOT, capture_output=True, text=True, check=True)
    named = {name for page in PAGES for name in re.findall(r"\bfab ([a-z]+\.[a-z-]+)", page.read_text("utf-8"))}
    assert {"testbed.up", "scenario.churn"} <= named
    for page in PAGES:  # scenarios that a page shows how to write
        named -= {
            f"scenario.{name}"
            for name in re.findall(r'^    name="([a-z-]+)"', page.read_text("utf-8"), re.MULTILINE)
        }
    assert {
        name for name in named if not re.search(rf"^\s+{re.escape(name)}\b", run.stdout, re.MULTILINE)
    } == set()


def test_every_make_target_of_the_pages_exists() -> None:
    """The same for make."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = {
        name
        for page in PAGES
        for name in re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text("utf-8"), re.MULTILINE)
    }
    assert {"demo", "test"} <= named <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    """To a file of the repository; what is elsewhere cannot be tried here."""
    for target in re.findall(r"\]\(([^)#]+)", page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target
