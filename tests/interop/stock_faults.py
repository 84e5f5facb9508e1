"""What PyPI's kademlia 2.2.3 does where the paper, or a user, expects something else; prints it all as JSON.

Runs in an environment of its own, on virtual time and a network in memory; `test_difference.py` reads the output.
"""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import random
import selectors
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import umsgpack
from kademlia.network import Server  # type: ignore[import-not-found,unused-ignore]  # the stock one
from kademlia.node import Node  # type: ignore[import-not-found,unused-ignore]
from kademlia.routing import RoutingTable  # type: ignore[import-not-found,unused-ignore]
from kademlia.utils import digest  # type: ignore[import-not-found,unused-ignore]

Address = tuple[str, int]
HOUR = 3600.0


class Loop(asyncio.SelectorEventLoop):
    """A loop whose time goes on as soon as there is nothing to do."""

    def __init__(self) -> None:
        self.now = 0.0
        selector = selectors.SelectSelector()
        selector.select = self._select  # type: ignore[method-assign]
        super().__init__(selector)

    def _select(self, timeout: float | None = None) -> list[Any]:
        self.now += timeout or 0.0
        return []

    def time(self) -> float:
        """Return virtual seconds."""
        return self.now


class Network:
    """Stock servers on one loop; the dead receive nothing."""

    def __init__(self) -> None:
        self.servers: dict[Address, Any] = {}
        self.dead: set[Address] = set()
        #: (method, address asked) of every request
        self.requests: list[tuple[str, Address]] = []

    def server(self, number: int, node_id: bytes | None = None, ksize: int = 4) -> Any:
        """Start a server."""
        server = Server(ksize=ksize, node_id=node_id or digest(f"peer {number}"))
        address = (f"10.0.0.{number}", 1)
        server.protocol = server._create_protocol()
        server.protocol.connection_made(Transport(self, address))
        self.servers[address] = server
        return server

    def contact(self, server: Any) -> Any:
        """Return the server as others know it."""
        (address,) = [address for address, other in self.servers.items() if other is server]
        return Node(server.node.id, *address)

    async def grow(self, count: int, ksize: int = 4) -> list[Any]:
        """Start servers that bootstrap from the first."""
        servers = [self.server(number, ksize=ksize) for number in range(1, count + 1)]
        for server in servers[1:]:
            await server.bootstrap([("10.0.0.1", 1)])
        return servers


class Transport:
    """Where a server's datagrams go."""

    def __init__(self, network: Network, address: Address) -> None:
        self.network = network
        self.address = address

    def sendto(self, datagram: bytes, address: Address) -> None:
        """Deliver after a millisecond."""
        if datagram[:1] == b"\0":
            self.network.requests.append((umsgpack.unpackb(datagram[21:])[0], address))
        asyncio.get_running_loop().call_later(0.001, self._deliver, datagram, address)

    def _deliver(self, datagram: bytes, address: Address) -> None:
        if address in self.network.servers and address not in self.network.dead:
            self.network.servers[address].protocol.datagram_received(datagram, self.address)

    def close(self) -> None:
        """Do nothing."""


def now() -> float:
    """Return virtual seconds."""
    return asyncio.get_running_loop().time()


async def settle() -> None:
    """Let everything under way end."""
    await asyncio.sleep(20)


def numbered(number: int) -> Any:
    """Return a contact with that ID."""
    return Node(number.to_bytes(20, "big"), f"10.1.{number % 250}.1", 1)


async def a_request_leaves_its_sender_where_it_was() -> Any:
    """2.2: return who is taken to be the least recently seen before and after it spoke."""
    network = Network()
    server = network.server(1)
    for number in (5, 6, 7):
        server.protocol.router.add_contact(numbered(number))
    before = server.protocol.router.buckets[0].head().long_id
    server.protocol.rpc_ping(("10.1.5.1", 1), numbered(5).id)
    return [before, server.protocol.router.buckets[0].head().long_id]


async def the_same_contact_is_pinged_for_every_newcomer() -> Any:
    """2.2: return whom newcomers to a full bucket make the peer ping; all contacts answer every time."""
    network = Network()
    server = network.server(1, node_id=bytes(20), ksize=2)
    server.protocol.router.add_contact(network.contact(network.server(2, node_id=bytes(19) + b"\1")))
    # Five bits are the same in all of these: the bucket is not split.
    for number, prefix in enumerate((0b100000, 0b100001, 0b100000, 0b100001, 0b100000)):
        other = network.server(10 + number, node_id=((prefix << 154) + number).to_bytes(20, "big"))
        server.protocol.router.add_contact(network.contact(other))
        await settle()
    return [address[0] for method, address in network.requests if method == "ping"]


async def a_new_address_is_ignored_and_not_verified() -> Any:
    """2.2: return the address known for an ID that speaks from a new one, and the pings sent."""
    network = Network()
    server = network.server(1)
    server.protocol.router.add_contact(Node(numbered(5).id, "10.1.5.1", 1))
    for _ in range(3):
        server.protocol.rpc_ping(("10.9.9.9", 9), numbered(5).id)
        await settle()
    (known,) = server.protocol.router.find_neighbors(numbered(4))
    return [known.ip, len(network.requests)]


async def one_dead_peer_costs_a_lookup_five_seconds() -> Any:
    """2.3: return the seconds that a lookup of a missing key takes with all alive, and with one dead."""
    network = Network()
    servers = await network.grow(8)
    await settle()
    took = []
    for doomed in (None, network.contact(servers[3])):
        if doomed is not None:
            network.dead.add((doomed.ip, doomed.port))
            servers[0].protocol.router.add_contact(doomed)
        key = next(f"k{n}" for n in range(999) if doomed is None or _among(servers, f"k{n}", servers[3], 2))
        started = now()
        await servers[0].get(key)
        took.append(now() - started)
    return took


async def a_value_waits_for_the_dead_asked_with_its_holder() -> Any:
    """2.3: return the seconds until a value that its holder answered at once is returned."""
    network = Network()
    reader = network.server(1)
    holder, doomed = network.server(2), network.server(3)
    reader.protocol.router.add_contact(network.contact(holder))
    reader.protocol.router.add_contact(network.contact(doomed))
    holder.storage[digest("key")] = b"value"
    network.dead.add(("10.0.0.3", 1))
    started = now()
    assert await reader.get("key") == b"value"
    return now() - started


async def a_cached_copy_lives_as_long_as_a_replica() -> Any:
    """2.3: return whether the copy that a lookup left far away is there after six days."""
    network = Network()
    reader, holder, other = network.server(1), network.server(2), network.server(3)
    for server in (holder, other):
        reader.protocol.router.add_contact(network.contact(server))
    holder.storage[digest("key")] = b"value"
    await reader.get("key")
    await asyncio.sleep(6 * 24 * HOUR)
    return other.storage.get(digest("key")) == b"value"


async def a_join_is_the_self_lookup_only() -> Any:
    """2.3: return how many different IDs a joining peer looks up, and how many buckets it has then."""
    network = Network()
    await network.grow(30, ksize=2)
    await settle()
    joining = network.server(99, ksize=2)
    targets: set[bytes] = set()
    find_node = joining.protocol.call_find_node

    async def recorded(peer: Any, node: Any) -> Any:
        targets.add(node.id)
        return await find_node(peer, node)

    joining.protocol.call_find_node = recorded
    await joining.bootstrap([("10.0.0.1", 1)])
    return [len(targets), len(joining.protocol.router.buckets)]


async def replication_extends_the_life() -> Any:
    """2.3: return whether a pair is still there twenty days after its publisher left; lives are a week."""
    network = Network()
    servers = await network.grow(3)
    await servers[0].set("key", b"value")
    network.dead.add(("10.0.0.1", 1))
    for _ in range(20 * 24):
        await asyncio.sleep(HOUR)
        for server in servers[1:]:
            await server._refresh_table()
    return any(server.storage.get(digest("key")) == b"value" for server in servers[1:])


async def a_publisher_forgets_what_it_published() -> Any:
    """2.3: return whether anything of a pair is left at its publisher, which would have to republish it."""
    network = Network()
    servers = await network.grow(12, ksize=2)
    await settle()
    key = next(f"k{n}" for n in range(999) if not _among(servers, f"k{n}", servers[5], 6))
    await servers[5].set(key, b"value")
    return list(servers[5].storage)


async def neighbours_are_forgotten() -> Any:
    """2.4: return in how many of 200 networks a peer that met everybody does not know its k closest."""
    wrong = 0
    for seed in range(200):
        rng = random.Random(seed)
        own = rng.getrandbits(160)
        table = RoutingTable(Silent(), 2, Node(own.to_bytes(20, "big")))
        numbers = [own ^ (rng.getrandbits(160) >> rng.randrange(12)) for _ in range(60)]
        for number in numbers:
            table.add_contact(Node(number.to_bytes(20, "big"), "10.1.1.1", 1))
        known = {node.long_id for bucket in table.buckets for node in bucket.get_nodes()}
        wrong += not set(sorted(numbers, key=lambda number: number ^ own)[:2]) <= known
    return wrong


async def replicating_a_pair_takes_a_lookup() -> Any:
    """2.5: return how many FIND_NODE a holder sends to replicate one pair, knowing everybody."""
    network = Network()
    servers = await network.grow(4)
    await settle()
    servers[0].storage[digest("key")] = b"value"
    await asyncio.sleep(HOUR / 2)
    for bucket in servers[0].protocol.router.buckets:
        bucket.touch_last_updated()
    await asyncio.sleep(HOUR / 2 + 1)
    network.requests.clear()
    await servers[0]._refresh_table()
    return sum(method == "find_node" for method, _ in network.requests)


async def a_joining_peer_is_given_the_wrong_pairs() -> Any:
    """2.5: of 200 pairs, return how many a newcomer that is closest to them is given by their closest holder."""
    network = Network()
    holder = network.server(1)
    holder.protocol.router.add_contact(network.contact(network.server(2)))
    given = []

    async def store(node: Any, key: bytes, value: Any) -> Any:
        given.append(key)
        return (True, True)

    holder.protocol.call_store = store
    expected = 0
    for number in range(200):
        key = digest(number)
        holder.storage.data.clear()
        holder.storage[key] = b"value"
        newcomer = Node(key, "10.2.0.1", 1)  # nobody is closer
        first = network.contact(network.servers["10.0.0.2", 1])
        if holder.node.distance_to(newcomer) < first.distance_to(newcomer):  # ours to hand over
            expected += 1
            holder.protocol.welcome_if_new(newcomer)
            await asyncio.sleep(0)
            holder.protocol.router.remove_contact(newcomer)
    return [expected, len(given)]


async def one_lost_datagram_drops_a_contact() -> Any:
    """4.1: return the contacts before and after one ping to a live peer was lost."""
    network = Network()
    server, other = network.server(1), network.server(2)
    contact = network.contact(other)
    server.protocol.router.add_contact(contact)
    network.dead.add(("10.0.0.2", 1))
    await server.protocol.call_ping(contact)
    return [1, len(server.protocol.router.find_neighbors(numbered(1)))]


async def the_own_id_is_taken_in() -> Any:
    """Return whether a stranger that claims the peer's own ID is in its table."""
    server = Network().server(1)
    server.protocol.rpc_ping(("10.9.9.9", 9), server.node.id)
    return not server.protocol.router.is_new_node(server.node)


async def an_id_at_the_edge_is_in_the_wrong_bucket() -> Any:
    """Return whether the last ID of the lower half is outside the bucket that is taken to be its own."""
    server = Network().server(1)
    server.protocol.router.split_bucket(0)
    edge = Node((server.protocol.router.buckets[0].range[1]).to_bytes(20, "big"))
    return not server.protocol.router.buckets[server.protocol.router.get_bucket_for(edge)].has_in_range(edge)


async def set_without_acknowledgement_is_a_success() -> Any:
    """Return what `set` answers when everybody dies between lookup and store."""
    network = Network()
    servers = await network.grow(3)
    await settle()

    async def lost(node: Any, key: bytes, value: Any) -> Any:
        return (False, None)

    servers[0].protocol.call_store = lost
    return await servers[0].set("key", b"value")


async def a_new_contact_costs_every_stored_key() -> Any:
    """Return how often the table is searched, in one turn of the loop, for a new contact with 500 keys stored."""
    network = Network()
    server = network.server(1)
    for number in range(500):
        server.storage[digest(number)] = b"value"
    searches = 0
    find = server.protocol.router.find_neighbors

    def counted(*args: Any, **kw: Any) -> Any:
        nonlocal searches
        searches += 1
        return find(*args, **kw)

    server.protocol.router.find_neighbors = counted
    server.protocol.welcome_if_new(numbered(5))
    return searches


async def an_old_copy_overwrites_a_newer_value() -> Any:
    """Return what is served after a holder that missed the second publication replicated the first."""
    network = Network()
    servers = await network.grow(3)
    await settle()
    await servers[0].set("key", b"old")
    await asyncio.sleep(HOUR / 2)
    network.dead.add(("10.0.0.3", 1))
    await servers[0].set("key", b"new")
    network.dead.clear()
    await asyncio.sleep(HOUR / 2 + 60)
    await servers[2].bootstrap([("10.0.0.1", 1)])
    await servers[2]._refresh_table()
    return servers[0].storage.get(digest("key")).decode()


class Payload:
    """What runs when it is unpickled."""

    def __reduce__(self) -> Any:
        return (_note, ())


ran: list[bool] = []


def _note() -> dict[str, Any]:
    ran.append(True)
    return {"ksize": 1, "alpha": 1, "id": bytes(20), "neighbors": []}


async def a_state_file_runs_what_is_in_it() -> Any:
    """Return whether a state file made by somebody else ran code of theirs."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "state")
        file.write_bytes(pickle.dumps(Payload()))  # noqa: ASYNC240

        async def listen(*_: Any) -> None:
            pass

        Server.listen = listen
        await Server.load_state(str(file), 1)
    return bool(ran)


class Silent:
    """A protocol whose pings go nowhere."""

    async def call_ping(self, node: Any) -> None:
        """Do nothing."""


def _among(servers: list[Any], key: str, server: Any, count: int) -> bool:
    node = Node(digest(key))
    return server in sorted(servers, key=lambda s: s.node.distance_to(node))[:count]


def main() -> None:
    """Print what every experiment returns."""
    logging.disable(logging.CRITICAL)
    random.seed(1)
    results = {}
    for name, experiment in list(globals().items()):
        if asyncio.iscoroutinefunction(experiment) and experiment is not settle:
            loop = Loop()
            time.monotonic = loop.time
            asyncio.set_event_loop(loop)
            results[name] = loop.run_until_complete(experiment())
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
