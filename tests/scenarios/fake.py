"""A network of pretended peers in this process: the HTTP contract of docs/architecture.md, no Kademlia.

It is the engine's own test bed.  Placement is ideal (a put goes to the k closest peers that are up), repair is
a loop that copies keys to where they belong every `replicate` seconds, and each can be told to misbehave.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote

from aiohttp import web

from scenarios.errors import TestbedError
from scenarios.testbed.model import Peer, ServiceState, Topology

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def sha1(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


@dataclass
class FakePeer:
    """One peer: a store, a state, and a listening socket while it is up."""

    peer: Peer
    node_id: str
    store: dict[str, bytes] = field(default_factory=dict)
    state: str = "up"
    runner: web.AppRunner | None = None


class FakeCluster:
    """Peers on an event loop of their own thread, and the Provider that breaks and heals them.

    `defects` of: "never-replicates", "corrupts", "forgets", "loses-puts", "spoils-a-copy".
    """

    name = "fake"

    def __init__(
        self,
        peers: int = 5,
        ksize: int = 3,
        *,
        replicate: float = 0.3,
        subnet: str = "127.0.50",
        port: int = 0,
        defects: frozenset[str] = frozenset(),
        capabilities: frozenset[str] = frozenset({"kill", "stop", "pause", "wipe"}),
        logs: Path | None = None,
    ) -> None:
        self.capabilities = capabilities
        self.ksize = ksize
        self.replicate = replicate
        self.defects = defects
        self.verbs: list[str] = []
        self._logs = logs
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        rng = random.Random(7)
        self.members: dict[str, FakePeer] = {}
        for n in range(1, peers + 1):
            address = f"{subnet}.{9 + n}"
            member = FakePeer(Peer(f"peer{n}", "here", address, 8467 + n, port), f"{rng.getrandbits(160):040x}")
            self._wait(self._listen(member))
            self.members[member.peer.name] = member
        self._repairer = asyncio.run_coroutine_threadsafe(self._repair(), self._loop)

    def _wait(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def close(self) -> None:
        """Silence every peer and end the loop."""
        self._repairer.cancel()
        for member in self.members.values():
            self._wait(self._silence(member))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def __enter__(self) -> FakeCluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Peers.

    async def _listen(self, member: FakePeer) -> None:
        app = web.Application(client_max_size=2**24)
        app.router.add_get("/healthz", self._bind(member, self._healthz))
        app.router.add_get("/status", self._bind(member, self._status))
        app.router.add_get("/storage", self._bind(member, self._storage))
        app.router.add_put("/dht/{key:.*}", self._bind(member, self._put))
        app.router.add_get("/dht/{key:.*}", self._bind(member, self._get))
        member.runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
        await member.runner.setup()
        site = web.TCPSite(member.runner, member.peer.address, member.peer.http_port)
        await site.start()
        port = member.runner.addresses[0][1]
        member.peer = Peer(member.peer.name, member.peer.host, member.peer.address, member.peer.udp_port, port)

    def _bind(self, member, handler):
        async def bound(request: web.Request) -> web.StreamResponse:
            while member.state == "paused":  # noqa: ASYNC110 - the state is set by another thread
                await asyncio.sleep(0.01)
            return await handler(member, request)

        return bound

    async def _silence(self, member: FakePeer) -> None:
        if member.runner is not None:
            runner, member.runner = member.runner, None
            await runner.cleanup()

    async def _healthz(self, _member: FakePeer, _request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _status(self, member: FakePeer, _request: web.Request) -> web.Response:
        return web.json_response(
            {
                "id": member.node_id,
                "state": "joined",
                "ksize": self.ksize,
                "version": "fake",
                "intervals": {"refresh": 1, "replicate": self.replicate, "republish": 24, "expire": 24},
            }
        )

    async def _storage(self, member: FakePeer, request: web.Request) -> web.Response:
        after, limit = request.query.get("after", ""), min(3, int(request.query["limit"]))
        digests = sorted(d for d in member.store if d > after)
        page = digests[:limit]
        return web.json_response(
            {
                "total": len(member.store),
                "bytes": 0,
                "keys": [{"key": d, "size": 1, "value_sha1": sha1(member.store[d])} for d in page],
                "next": page[-1] if len(digests) > limit else None,
            }
        )

    async def _put(self, _member: FakePeer, request: web.Request) -> web.Response:
        digest = sha1(unquote(request.raw_path.removeprefix("/dht/")).encode())
        body = await request.read()
        holders = self._closest(digest)
        if "loses-puts" not in self.defects:
            for holder in holders:
                holder.store[digest] = body
            if "spoils-a-copy" in self.defects:
                holders[-1].store[digest] = b"x" + body[1:]
        return web.json_response({"key": "?", "digest": digest, "replicas": len(holders), "asked": self.ksize})

    async def _get(self, _member: FakePeer, request: web.Request) -> web.Response:
        digest = sha1(unquote(request.raw_path.removeprefix("/dht/")).encode())
        for holder in self._closest(digest, len(self.members)):
            if digest in holder.store:
                body = holder.store[digest]
                if "corrupts" in self.defects:
                    body = body[:-1] + bytes([body[-1] ^ 1])
                return web.Response(body=body, headers={"X-Kademlia-Hops": "1"})
        return web.json_response({"error": "no such key"}, status=404)

    def _closest(self, digest: str, count: int | None = None) -> list[FakePeer]:
        live = [m for m in self.members.values() if m.state == "up"]
        live.sort(key=lambda m: int(m.node_id, 16) ^ int(digest, 16))
        return live[: self.ksize if count is None else count]

    async def _repair(self) -> None:
        while True:
            await asyncio.sleep(self.replicate)
            if "never-replicates" in self.defects:
                continue
            for holder in [m for m in self.members.values() if m.state == "up"]:
                for digest, body in list(holder.store.items()):
                    for member in self._closest(digest):
                        member.store.setdefault(digest, body)

    # The provider.

    def topology(self) -> Topology:
        """Return the peers as they listen now."""
        return Topology("fake", tuple(m.peer for m in self.members.values()), self.ksize, 3, "test")

    def states(self) -> Mapping[str, ServiceState]:
        """Return what each peer is."""
        return {name: ServiceState(m.state) for name, m in self.members.items()}

    def _down(self, peer: Peer, verb: str) -> None:
        self.verbs.append(f"{verb} {peer.name}")
        member = self.members[peer.name]
        if member.state != "down":
            member.state = "down"
            self._wait(self._silence(member))
            if "forgets" in self.defects:
                member.store.clear()

    def kill(self, peer: Peer) -> None:
        """Close the socket; the store stays."""
        self._down(peer, "kill")

    def stop(self, peer: Peer) -> None:
        """Do as kill does."""
        self._down(peer, "stop")

    def start(self, peer: Peer) -> None:
        """Listen again."""
        self.verbs.append(f"start {peer.name}")
        member = self.members[peer.name]
        if member.state == "down":
            self._wait(self._listen(member))
            member.state = "up"

    def pause(self, peer: Peer) -> None:
        """Let requests wait."""
        self.verbs.append(f"pause {peer.name}")
        self.members[peer.name].state = "paused"

    def resume(self, peer: Peer) -> None:
        """Answer what waited."""
        self.verbs.append(f"resume {peer.name}")
        self.members[peer.name].state = "up"

    def wipe(self, peer: Peer) -> None:
        """Empty the store."""
        self.verbs.append(f"wipe {peer.name}")
        member = self.members[peer.name]
        if member.state != "down":
            raise TestbedError(f"{peer.name} is up: kill it first")
        member.store.clear()

    def heal(self) -> list[str]:
        """Bring everyone back."""
        done = []
        for name, member in self.members.items():
            if member.state == "paused":
                self.resume(member.peer)
                done.append(f"resumed {name}")
            elif member.state == "down":
                self.start(member.peer)
                done.append(f"started {name}")
        self.verbs.append("heal")
        return done

    def reconfigure(self, settings: Mapping[str, object]) -> None:
        """Take another k."""
        self.verbs.append(f"reconfigure {dict(settings)}")
        self.ksize = int(str(settings["kademlia_ksize"]))

    def log_files(self, peer: Peer) -> list[Path]:
        """Write a log and return it."""
        if self._logs is None:
            return []
        path = self._logs / f"{peer.name}.log"
        path.write_text(f"log of {peer.name}\n")
        return [path]
