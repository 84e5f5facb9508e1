"""`fab testbed.*`: bring peers up, look at them, heal them, take them down."""

from __future__ import annotations

import re
import sys
import time
from typing import TYPE_CHECKING, Any

from invoke.collection import Collection
from invoke.tasks import Task
from rich.console import Console

from scenarios.errors import TestbedError, UsageError
from scenarios.testbed import lifecycle, logs, show
from scenarios.testbed.cli import reports_errors
from scenarios.testbed.lock import hold
from scenarios.testbed.observe import observe, wait_until_joined
from scenarios.testbed.providers import current_folder, open_provider
from scenarios.testbed.settings import declaration
from scenarios.testbed.state import StateFolder
from scenarios.testbed.topology import topology

if TYPE_CHECKING:
    from collections.abc import Callable

    from invoke.context import Context

#: seconds that healed peers have to join the network again
HEALED = 60.0
WHOLE = re.compile(r"[+-]?[0-9]+")


def refuse_hosts(context: Context) -> None:
    """Refuse `fab -H …`: it would run the task once for each host."""
    if getattr(context, "host", None) is not None:
        raise UsageError("-H does not go with testbed tasks: the testbed's inventory names the hosts")
    if context.config.get("connect_kwargs", {}).get("key_filename"):
        raise UsageError(
            "-i names an SSH identity, which testbed tasks do not need; an inventory is given to Ansible: "
            "ansible-playbook -i FILE deploy.yml"
        )


def whole(option: str, text: str | None, lowest: int = 1) -> int | None:
    """Return an option's whole number; raises `UsageError` naming the option."""
    if text is None:
        return None
    if not WHOLE.fullmatch(text) or int(text) < lowest:
        raise UsageError(f"--{option} must be a whole number from {lowest} on, not {text!r}")
    return int(text)


@reports_errors
def up(
    context: Context,
    provider: str | None = None,
    peers: str | None = None,
    ksize: str | None = None,
    k: str | None = None,
    alpha: str | None = None,
    profile: str | None = None,
    http_port: str | None = None,
    udp_port: str | None = None,
    first_address: str | None = None,
) -> None:
    """Deploy peers and wait until they have joined; what is not named stays as it is, or as declared."""
    refuse_hosts(context)
    given: dict[str, Any] = {
        "provider": provider,
        "peers": whole("peers", peers),
        "ksize": whole("k", k) if ksize is None else whole("ksize", ksize),
        "alpha": whole("alpha", alpha),
        "profile": profile,
        "http_port": whole("http-port", http_port),
        "udp_port": whole("udp-port", udp_port),
        "first_address": first_address,
    }
    folder = StateFolder.default()
    existed = folder.root.exists()
    began = time.monotonic()
    console = Console(highlight=False)
    try:
        with hold(folder), console.status("looking at the machine") as status:
            try:
                settings = {name: value for name, value in given.items() if value is not None}
                wanted = lifecycle.up(folder, settings, lambda name: status.update(f"{name} …"))
            except BaseException:
                if not existed and folder.read() is None:
                    lifecycle.down(folder)  # refused before anything was touched
                raise
    except (TestbedError, KeyboardInterrupt) as error:
        record = folder.read()
        if record is not None and not record.complete:
            hint = "the testbed is incomplete: `fab testbed.up` tries again, `fab testbed.down` removes it"
            if isinstance(error, TestbedError):
                raise TestbedError(f"{error}; {hint}") from None
            print(f"fab: {hint}", file=sys.stderr)
        raise
    print(show.summary(wanted, time.monotonic() - began))


@reports_errors
def status(context: Context, json: bool = False) -> None:
    """Show every peer: address, node ID, state, uptime, contacts, keys."""
    refuse_hosts(context)
    folder = current_folder()
    declared = declaration(folder)
    peers = topology(declared).peers
    if declared.provider == "local":
        provider = open_provider(folder, declared.provider)
        if not provider.supervisor.is_alive():
            raise TestbedError("the testbed's supervisord is gone; run `fab testbed.heal`, or `fab testbed.down`")
        observations = observe(peers, provider.states())
    else:
        observations = observe(peers, {})
    if json:
        print(show.as_json(topology(declared), observations))
    else:
        console = Console(highlight=False)
        console.print(show.table(topology(declared), observations))


@reports_errors
def log(context: Context, peer: str | None = None, lines: str = "20", follow: bool = False) -> None:
    """Show the end of the peers' logs."""
    refuse_hosts(context)
    count = whole("lines", lines, lowest=0) or 0
    folder = current_folder()
    provider = open_provider(folder, declaration(folder).provider)
    known = provider.topology()
    peers = [known.peer(peer)] if peer is not None else list(known.peers)
    width = max(len(p.name) for p in peers)
    try:
        for one in peers:
            for line in logs.last_lines(provider.log_files(one), count):
                print(f"{one.name:{width}} | {line}")
        if follow:
            for one, line in logs.follow(provider, peers):
                print(f"{one.name:{width}} | {line}", flush=True)
    except BrokenPipeError:
        sys.stderr.close()  # `fab testbed.logs | head`: the reader has enough


@reports_errors
def heal(context: Context) -> None:
    """Undo every fault: resume, start and unblock peers, and wait until they have joined again."""
    refuse_hosts(context)
    folder = current_folder()
    with hold(folder):
        provider = open_provider(folder, declaration(folder).provider)
        for sentence in provider.heal():
            print(sentence)
        peers = provider.topology().peers
        missing = wait_until_joined(peers, HEALED)
    if missing:
        names = ", ".join(peer.name for peer in missing)
        raise TestbedError(
            f"not joined after {HEALED:.0f} s: {names}; see `fab testbed.logs --peer={missing[0].name}`"
        )
    print(f"all {len(peers)} peers are up and have joined")


@reports_errors
def down(context: Context) -> None:
    """End every process of the testbed and delete all that it wrote."""
    refuse_hosts(context)
    folder = StateFolder.default()
    if not folder.root.exists():
        print(f"there is no testbed in {folder.root}")
        return
    with hold(folder):
        hint = lifecycle.machines_hint(folder)
        ended = lifecycle.down(folder)
    print(f"testbed removed ({ended} processes ended){hint}")


OPTIONS = {
    "up": {
        "provider": "where the peers run: local (default); lxc, libvirt, virtualbox: see `vagrant up`",
        "peers": "how many peers",
        "ksize": "k of the paper: replicas of a value, contacts in a bucket",
        "k": "the same as --ksize",
        "alpha": "α of the paper: requests in flight during a lookup",
        "profile": "intervals: paper, lab or demo",
        "http_port": "HTTP port of the first peer; the others follow",
        "udp_port": "UDP port of the first peer; the others follow",
        "first_address": "address of the first peer; the others follow",
    },
    "status": {"json": "print JSON instead of a table"},
    "logs": {
        "peer": "only this peer",
        "lines": "how many lines of each [20]",
        "follow": "go on as lines are written",
    },
}


def _namespace() -> Collection:
    collection = Collection("testbed")
    tasks: dict[str, Callable[..., None]] = {"up": up, "status": status, "logs": log, "heal": heal, "down": down}
    for name, body in tasks.items():
        collection.add_task(Task(body, name=name, help=OPTIONS.get(name), auto_shortflags=False))
    return collection


namespace = _namespace()
