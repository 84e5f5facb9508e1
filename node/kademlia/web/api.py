"""The endpoints of docs/architecture.md, as a klein application."""

from __future__ import annotations

import json
import os
import re
import time
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import unquote_to_bytes

from klein import Klein
from klein.resource import KleinResource
from twisted.internet.task import deferLater
from twisted.logger import Logger

from kademlia import __version__
from kademlia.records import content_of
from kademlia.storage import ends
from kademlia.web.control import Control
from kademlia.web.errors import HTTPError, as_http, error_body

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twisted.python.failure import Failure
    from twisted.web.server import Request

    from kademlia.config import Settings
    from kademlia.network import Server
    from kademlia.web.metrics import Metrics

MAX_KEY: Final = 1024
MAX_PAGE: Final = 10_000
#: records listed in one turn of the loop: some 2 ms, so that the peer's answers to others do not wait
SLICE: Final = 250

_OPENAPI: Final = Path(__file__).with_name("openapi.yaml")
_INDEX: Final = b"A Kademlia peer. Try /status, /neighbours, /storage, /dht/<key>; /openapi.yaml describes them.\n"


class Peer(Protocol):
    """What the API shows of the service it belongs to."""

    settings: Settings
    server: Server

    @property
    def state(self) -> str:
        """Return joining, joined, alone or stopping."""
        ...

    @property
    def uptime(self) -> float:
        """Return the seconds since start."""
        ...

    def shut_down(self) -> None:
        """Stop the process soon."""
        ...


class API:
    """One peer's HTTP API."""

    app = Klein()
    # A path is what it is: werkzeug's helpful redirects would carry the client's Host header into our answer.
    app.url_map.merge_slashes = False
    app.url_map.strict_slashes = False

    _log = Logger()

    def __init__(self, peer: Peer, reactor: Any) -> None:
        self._peer = peer
        self._reactor = reactor
        self._server = peer.server
        self._metrics: Metrics | None = None
        self._control: Control | None = None
        if peer.settings.token is not None and peer.server.shim is not None:
            self._control = Control(peer.settings.token, peer.server.shim, peer.shut_down)

    def resource(self) -> APIResource:
        """Return the root resource for a `Site`."""
        return APIResource(self.app)

    @app.route("/dht/key", methods=["PUT", "POST"])
    async def put(self, request: Request) -> bytes:
        """Publish the body under the key."""
        key = _key(request)
        content = _content(request)
        published = await self._server.publish(key, content)
        return _json(
            request,
            {
                "key": key.decode("utf-8", "backslashreplace"),
                "digest": published.digest.hex(),
                "version": published.version,
                "replicas": published.replicas,
                "asked": published.asked,
                "size": len(content),
            },
        )

    @app.route("/dht/key", methods=["GET"])
    async def get(self, request: Request) -> bytes:
        """Return the value of the key as it was stored, or with `trace=1` how it was looked for."""
        key = _key(request)
        if _argument(request, "trace", "0", "[01]", "0 or 1") == "1":
            return _json(request, await self._server.trace(key))
        found = await self._server.fetch(key)
        if found is None:
            raise HTTPError(404, "the network has no value for this key")
        request.setHeader("X-Kademlia-Version", str(found.version))
        request.setHeader("X-Kademlia-Hops", str(found.hops))
        return _body(request, content_of(found.value), "application/octet-stream")

    @app.route("/neighbours", methods=["GET"])
    def neighbours(self, request: Request) -> bytes:
        """List the contacts, closest first."""
        rows = [
            {
                "id": neighbour.id.hex(),
                "address": neighbour.address,
                "port": neighbour.port,
                "distance": neighbour.distance.hex(),
                "last_seen": round(neighbour.last_seen, 3),
            }
            for neighbour in self._server.neighbours()
        ]
        return _json(request, rows)

    @app.route("/storage", methods=["GET"])
    async def storage(self, request: Request) -> bytes:
        """List a page of the records held here; a long page is put together over several turns of the loop."""
        storage = self._server.storage
        after = _argument(request, "after", "", "[0-9a-fA-F]{40}|", "a digest of 40 hex digits")
        limit = int(_argument(request, "limit", "1000", "[0-9]{1,5}", f"a number from 1 to {MAX_PAGE}"))
        if not 1 <= limit <= MAX_PAGE:
            raise HTTPError(400, f"limit must be a number from 1 to {MAX_PAGE}")
        rows: list[bytes] = []
        cursor = bytes.fromhex(after) or None
        while True:
            room = min(SLICE, limit - len(rows))
            records, now = storage.page(cursor, room + 1), time.time()
            rows += [_encode(record.as_json(now)) for record in records[:room]]
            cursor = None if ends(records, room + 1) else records[:room][-1].key
            if cursor is None or len(rows) == limit:
                break
            await deferLater(self._reactor, 0)
        head = {"total": storage.count, "bytes": storage.size, "next": cursor and cursor.hex()}
        content = b'%s,"keys":[%s]}\n' % (_encode(head)[:-1], b",".join(rows))
        return _body(request, content, "application/json")

    @app.route("/status", methods=["GET"])
    def status(self, request: Request) -> bytes:
        """Tell who this peer is and how it fares."""
        settings, server, state = self._peer.settings, self._server, self._peer.state
        address, port = server.address or (settings.address, settings.port)
        return _json(
            request,
            {
                "id": server.id.hex(),
                "address": address,
                "port": port,
                "http_port": request.getHost().port,
                "state": state,
                "joined": state == "joined",
                "uptime": round(self._peer.uptime, 3),
                "contacts": server.contact_count,
                "keys": server.storage.count,
                "bytes": server.storage.size,
                "ksize": server.ksize,
                "alpha": server.alpha,
                "profile": settings.profile,
                "intervals": asdict(server.intervals),
                "version": __version__,
                "pid": os.getpid(),
                "rpcs": _nested(server.stats.rpcs),
                "lookups": _nested(server.stats.lookups),
            },
        )

    @app.route("/healthz", methods=["GET"])
    def healthz(self, request: Request) -> bytes:
        """Say ok when the peer can serve."""
        if self._peer.state in {"joining", "stopping"}:
            raise HTTPError(503, f"the peer is {self._peer.state}", {"Retry-After": "1"})
        return _body(request, b"ok\n", "text/plain; charset=utf-8")

    @app.route("/metrics", methods=["GET"])
    def metrics(self, request: Request) -> bytes:
        """Return the counters for Prometheus."""
        if self._metrics is None:
            # The client is a mebibyte that a peer whom nobody scrapes need not spend.
            from kademlia.web.metrics import Metrics  # noqa: PLC0415

            self._metrics = Metrics(self._peer)
        accept = request.requestHeaders.getRawHeaders(b"accept", [])
        return _body(request, *self._metrics.render(b",".join(accept).decode("latin-1")))

    @app.route("/openapi.yaml", methods=["GET"])
    def openapi(self, request: Request) -> bytes:
        """Describe this API."""
        return _body(request, _OPENAPI.read_bytes(), "application/yaml")

    @app.route("/", methods=["GET"])
    def index(self, request: Request) -> bytes:
        """Say what this is."""
        return _body(request, _INDEX, "text/plain; charset=utf-8")

    @app.route("/control/shutdown", methods=["POST"])
    def shutdown(self, request: Request) -> bytes:
        """Stop the peer in good order."""
        answer = self._authorised(request).shutdown()
        request.setResponseCode(202)
        return _json(request, answer)

    @app.route("/control/faults", methods=["POST"])
    def set_faults(self, request: Request) -> bytes:
        """Lose, delay or block this peer's datagrams."""
        return _json(request, self._authorised(request).set_faults(_content(request)))

    @app.route("/control/faults", methods=["DELETE"])
    def clear_faults(self, request: Request) -> bytes:
        """Turn the faults off."""
        return _json(request, self._authorised(request).clear_faults())

    @app.handle_errors(Exception)
    def failed(self, request: Request, failure: Failure) -> bytes:
        """Answer every error as JSON, and log what nobody expected."""
        error = as_http(failure.value)
        if error.code == 500:
            self._log.failure("{method} {uri} failed", failure, method=request.method, uri=request.uri[:200])
        request.setResponseCode(error.code)
        for name, value in error.headers.items():
            request.setHeader(name, value)
        return _body(request, error_body(str(error)), "application/json")

    def _authorised(self, request: Request) -> Control:
        if self._control is None:
            raise HTTPError(404, "no control.token_file is configured, so there is no /control")
        self._control.authorise(request)
        return self._control


class APIResource(KleinResource):
    """Shows klein only paths that it can read: a key is bytes, its router wants UTF-8 and takes slashes apart."""

    def render(self, request: Any) -> Any:
        """Route a request."""
        request.responseHeaders.removeHeader(b"server")
        request.setHeader("X-Content-Type-Options", "nosniff")
        request.setHeader("Cache-Control", "no-store")
        if request.path.startswith(b"/dht/"):
            request.postpath = [b"dht", b"key"]
        elif not re.fullmatch(rb"/[a-z./]*", request.path):
            request.postpath = [b"no such path"]
        return super().render(request)


def _key(request: Request) -> bytes:
    key = unquote_to_bytes(request.path.removeprefix(b"/dht/"))
    if not key:
        raise HTTPError(400, "the key is empty; it is everything behind /dht/")
    if len(key) > MAX_KEY:
        raise HTTPError(414, f"the key is longer than {MAX_KEY} bytes")
    return key


def _content(request: Any) -> bytes:
    content: bytes = request.content.read()
    return content


def _argument(request: Request, name: str, default: str, pattern: str, allowed: str) -> str:
    values: list[bytes] = request.args.get(name.encode("ascii"), [default.encode("ascii")])
    text = values[0].decode("latin-1")
    if len(values) != 1 or not re.fullmatch(pattern, text, re.ASCII):
        raise HTTPError(400, f"{name} must be {allowed}")
    return text


def _nested(counts: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    nested: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for (name, outcome), count in sorted(counts.items()):
        nested[name][outcome] = count
    return nested


def _json(request: Request, answer: object) -> bytes:
    return _body(request, _encode(answer) + b"\n", "application/json")


def _encode(answer: object) -> bytes:
    return json.dumps(answer, separators=(",", ":")).encode("ascii")


def _body(request: Request, content: bytes, content_type: str) -> bytes:
    """Return the content, having announced it; HEAD needs the length although it gets no content."""
    request.setHeader("Content-Type", content_type)
    request.setHeader("Content-Length", str(len(content)))
    return content
