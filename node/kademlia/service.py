"""A configured peer as a Twisted service: store, UDP, HTTP, joining, and an orderly stop."""

# mypy: allow-untyped-calls
from __future__ import annotations

import random
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from twisted.application.service import MultiService
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred, maybeDeferred
from twisted.internet.error import CannotListenError, ReactorNotRunning
from twisted.logger import Logger

from kademlia.config import node_id
from kademlia.errors import ListenError
from kademlia.network import Server
from kademlia.shim import FaultShim
from kademlia.sqlite_store import SQLiteStorage
from kademlia.storage import MemoryStorage
from kademlia.web.api import API
from kademlia.web.site import PeerSite

if TYPE_CHECKING:
    from kademlia.config import Settings
    from kademlia.storage import Storage
    from kademlia.tables import Address

#: seconds before the second attempt to join, and the most between two attempts
FIRST_RETRY: Final = 0.5
LAST_RETRY: Final = 30.0
#: seconds between two looks at whether there are still contacts
WATCH: Final = 5.0
#: seconds, on average, between two greetings of a bootstrap peer that is no contact
REUNITE: Final = 30.0
#: bytes of the largest request body that is no value: a list of some thousand blocked peers
BODY_LIMIT: Final = 64 * 1024


class Joiner:
    """Keeps a peer in its network: bootstraps until somebody answers, and again when all contacts are lost.

    Now and then it greets a bootstrap peer that is no contact: two parts of a network that were separated for so
    long that they forgot each other find together by those that both were told of.
    """

    _log = Logger()

    def __init__(self, server: Server, peers: tuple[Address, ...], reactor: Any, rng: random.Random) -> None:
        self._server = server
        self._peers = peers
        self._reactor = reactor
        self._rng = rng
        self._failures = 0
        self._reunite_at = 0.0
        self._settled = not peers
        self._call: Any = None
        self._attempt: Deferred[None] | None = None

    @property
    def state(self) -> str:
        """Return joined, joining, or alone where there is nobody to ask."""
        if self._settled and self._server.contact_count:
            return "joined"
        return "joining" if self._peers else "alone"

    def start(self) -> None:
        """Begin, if there is anybody to ask."""
        if self._peers:
            self._look()

    def stop(self) -> None:
        """Give up what is under way."""
        if self._call is not None:
            self._call.cancel()
            self._call = None
        if self._attempt is not None:
            self._attempt.cancel()
            self._attempt = None

    def _look(self) -> None:
        self._call = None
        if not (self._settled and self._server.contact_count):
            self._attempt = ensureDeferred(self._join())
        elif self._reactor.seconds() >= self._reunite_at:
            self._attempt = ensureDeferred(self._reunite())
        else:
            self._again(WATCH)

    async def _reunite(self) -> None:
        self._greet_later()
        try:
            await self._server.reunite(self._peers)
        except CancelledError:
            return
        except Exception:
            self._log.failure("greeting a bootstrap peer failed")
        self._attempt = None
        self._again(WATCH)

    def _greet_later(self) -> None:
        self._reunite_at = self._reactor.seconds() + REUNITE * self._rng.uniform(0.5, 1.5)

    async def _join(self) -> None:
        try:
            answered = await self._server.bootstrap(self._peers)
        except CancelledError:
            return
        except Exception:
            self._log.failure("bootstrapping failed")
            answered = []
        self._attempt = None
        if answered or self._server.contact_count:
            self._settled, self._failures = True, 0
            self._greet_later()
            self._log.info("joined; {count} contacts", count=self._server.contact_count)
            self._again(WATCH)
        else:
            # Jitter, so that peers which lost each other at once do not come back in step.
            wait = min(LAST_RETRY, FIRST_RETRY * 2**self._failures) * self._rng.uniform(0.5, 1.0)
            self._failures = min(self._failures + 1, 16)
            self._log.info("no bootstrap peer answered; next attempt in {wait:.1f} s", wait=wait)
            self._again(wait)

    def _again(self, wait: float) -> None:
        self._call = self._reactor.callLater(wait, self._look)


class PeerService(MultiService):
    """One peer; `server` exists once it was started.

    `startService` raises `StorageError`, `ConfigurationError` or `ListenError`, and leaves nothing open then.
    """

    server: Server
    _joiner: Joiner
    _log = Logger()

    def __init__(self, settings: Settings, reactor: Any) -> None:
        super().__init__()
        self.settings = settings
        self._reactor = reactor
        self._rng = random.Random()
        self._web: Any = None
        self.site: PeerSite | None = None
        self._stopping = False
        self._started_at = 0.0

    @property
    def state(self) -> str:
        """Return joining, joined, alone or stopping."""
        return "stopping" if self._stopping else self._joiner.state

    @property
    def uptime(self) -> float:
        """Return the seconds since start."""
        return float(self._reactor.seconds() - self._started_at)

    @property
    def http_port(self) -> int | None:
        """Return the port of the webserver, where there is one."""
        return None if self._web is None else int(self._web.getHost().port)

    def startService(self) -> None:  # noqa: N802 - Twisted's name
        """Open the store, listen and begin to join."""
        settings, reactor = self.settings, self._reactor
        storage = open_storage(settings)
        try:
            shim = None if settings.token is None else FaultShim(self._rng, reactor)
            self.server = Server(
                settings.ksize,
                settings.alpha,
                node_id(settings),
                storage,
                intervals=settings.intervals,
                reactor=reactor,
                shim=shim,
                max_value=settings.storage.max_value,
            )
            self._started_at = reactor.seconds()
            self._joiner = Joiner(self.server, settings.bootstrap, reactor, self._rng)
            self._web = self._listen_web()
            self.server.listen(settings.port, settings.address)
        except BaseException:
            if self._web is not None:
                self._web.stopListening()
            storage.close()
            raise
        super().startService()
        self._log.info("peer {id} on UDP {address}", id=self.server.id.hex(), address=self.server.address)
        self._joiner.start()

    def stopService(self) -> Deferred[None]:  # noqa: N802 - Twisted's name
        """Stop taking requests, then leave the network, then close the store."""
        self._stopping = True
        return ensureDeferred(self._stop())

    def shut_down(self) -> None:
        """Stop the process, once the answer that announces it has left."""
        self._reactor.callLater(0.1, stop_reactor, self._reactor)

    def _listen_web(self) -> Any:
        http = self.settings.http
        if http is None:
            return None
        body_limit = max(self.settings.storage.max_value, BODY_LIMIT)
        self.site = PeerSite(API(self, self._reactor).resource(), body_limit, self._reactor)
        try:
            return self._reactor.listenTCP(http.port, self.site, interface=http.address)
        except CannotListenError as error:
            raise cannot_listen("TCP", http.address, http.port, error.socketError) from None

    async def _stop(self) -> None:
        try:
            self._joiner.stop()
            if self._web is not None and self.site is not None:
                self.site.close_idle()
                await maybeDeferred(self._web.stopListening)
            if self.server.shim is not None:
                self.server.shim.clear()
            stopped: Any = super().stopService
            await maybeDeferred(stopped)
        finally:
            await self.server.stop()


def make_service(settings: Settings, reactor: Any = None) -> PeerService:
    """Return a peer that is not started yet; `reactor`: None for the global one."""
    if reactor is None:
        from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it
    return PeerService(settings, reactor)


def open_storage(settings: Settings) -> Storage:
    """Open the store that the settings ask for; raises `StorageError`."""
    quotas = settings.storage.max_keys, settings.storage.max_bytes
    if settings.storage.kind == "memory" or settings.data_dir is None:
        return MemoryStorage(*quotas)
    return SQLiteStorage(settings.data_dir / "store.sqlite", *quotas)


def stop_reactor(reactor: Any) -> None:
    """Stop the reactor; a second request to do so is no error."""
    with suppress(ReactorNotRunning):
        reactor.stop()


def cannot_listen(transport: str, address: str, port: int, error: OSError) -> ListenError:
    """Return the error for an address that cannot be bound."""
    return ListenError(
        f"cannot listen on {transport} {address}:{port}: {error.strerror or error}; "
        "choose another address or port, or stop what uses it"
    )
