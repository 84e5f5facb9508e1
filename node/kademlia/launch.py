"""What `twist kademlia`, `twistd kademlia` and the .tac files share: start cleanly, or say in one line why not."""

# mypy: allow-untyped-calls
from __future__ import annotations

import signal
import socket
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from twisted.application.service import Application

from kademlia.config import HTTPSettings, Settings, StorageSettings, load_settings, node_id
from kademlia.errors import KademliaError
from kademlia.logs import shape_log
from kademlia.service import PeerService, cannot_listen, make_service, open_storage, stop_reactor

if TYPE_CHECKING:
    from pathlib import Path

#: a peer without a configuration file: for a first look, on this host only, leaving nothing behind
DEFAULTS = Settings("127.0.0.1", http=HTTPSettings("127.0.0.1"), storage=StorageSettings("memory"))


def application_of(config: str | None, *, webserver: bool) -> Any:
    """Return the application of a .tac file; `config` names a configuration file, None or "": the defaults."""
    try:
        settings = load_settings(config) if config else DEFAULTS
    except KademliaError as error:
        raise SystemExit(f"kademlia: {error}") from None
    service = launch(settings if webserver else replace(settings, http=None))
    application = Application("kademlia")
    service.setServiceParent(application)
    return application


def launch(settings: Settings | str | Path) -> PeerService:
    """Return the service for `twist`, `twistd` and .tac files; a peer that cannot start ends the process.

    It ends it with one line on stderr and status 1.  That must happen before twistd starts its log and forks, but
    the real thing must happen after it (a SQLite connection does not survive a fork): so everything that can be
    in the way is tried here first, and released again.
    """
    from twisted.internet import reactor as chosen  # noqa: PLC0415 - only now has twistd chosen it

    reactor: Any = chosen

    try:
        if not isinstance(settings, Settings):
            settings = load_settings(settings)
        _rehearse(settings)
    except KademliaError as error:
        raise SystemExit(f"kademlia: {error}") from None
    _exit_with_success(reactor)
    shape_log(settings.log_level, settings.log_format)
    return make_service(settings, reactor)


def _rehearse(settings: Settings) -> None:
    open_storage(settings).close()
    node_id(settings)
    _try_to_bind(socket.SOCK_DGRAM, settings.address, settings.port)
    if settings.http is not None:
        _try_to_bind(socket.SOCK_STREAM, settings.http.address, settings.http.port)


def _try_to_bind(kind: socket.SocketKind, address: str, port: int) -> None:
    try:
        (family, _, _, _, where), *_ = socket.getaddrinfo(
            address, port, type=kind, flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        )
        with socket.socket(family, kind) as probe:
            if kind is socket.SOCK_STREAM:  # as Twisted does, or a port just left would look busy
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
            if kind is socket.SOCK_STREAM:
                probe.listen(1)
    except OSError as error:
        raise cannot_listen("UDP" if kind is socket.SOCK_DGRAM else "TCP", address, port, error) from None


def _exit_with_success(reactor: Any) -> None:
    """Make SIGTERM an ordinary end: twist and twistd would kill themselves with it again after the stop."""

    def install() -> None:
        signal.signal(signal.SIGTERM, lambda *_: reactor.callFromThread(stop_reactor, reactor))

    reactor.callWhenRunning(install)
