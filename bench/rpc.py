"""RPC round trips per second between two protocols in one process: ours, rpcudp's own, or a bare echo.

    python bench/rpc.py ours|kademlia|echo

All three run in our environment on the same kind of loop, with the same number of calls in flight, each in a
process of its own: asyncio reads into buffers of 256 KiB, and their cost depends on what else has used the heap.
The echo on Twisted's transport neither encodes nor waits with a timer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import time
from typing import TYPE_CHECKING, Any

from twisted.internet import asyncioreactor

loop = asyncio.new_event_loop()
asyncioreactor.install(loop)

from kademlia import udp  # noqa: E402  (the reactor comes first)
from kademlia.rpc import RPCProtocol  # noqa: E402
from peers import ADDRESS  # noqa: E402
from rpcudp.protocol import RPCProtocol as StockProtocol  # noqa: E402
from twisted.internet import reactor  # noqa: E402
from twisted.internet.protocol import DatagramProtocol  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

IN_FLIGHT = 64
CALLS = 10_000
TURNS = 3
PAYLOAD = bytes(range(20))


class Ours(RPCProtocol):
    """Our protocol with one method."""

    def rpc_ping(self, _: object, payload: bytes) -> bytes:
        """Answer with what came."""
        return payload


class Stock(StockProtocol):
    """rpcudp's protocol with the same method."""

    def rpc_ping(self, _: object, payload: bytes) -> bytes:
        """Answer with what came."""
        return payload


class Echo(DatagramProtocol):
    """Sends back what comes, or tells whoever waits for it."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] | None = None

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:  # noqa: N802  (Twisted's name)
        """Take a datagram."""
        if self.waiting is None:
            self.transport.write(datagram, addr)
        else:
            self.waiting.pop()()


def listen(protocol: DatagramProtocol) -> tuple[str, int]:
    """Start a Twisted protocol and return where it listens."""
    return ADDRESS, udp.listen(reactor, 0, protocol, ADDRESS, 8192).getHost().port


async def flood(call: Callable[[Callable[[], None]], None]) -> tuple[float, float]:
    """Make all calls; return round trips per second and CPU microseconds for each."""
    finished = loop.create_future()
    started = done = 0

    def start() -> None:
        nonlocal started
        started += 1
        call(answered)

    def answered() -> None:
        nonlocal done
        done += 1
        if started < CALLS:
            start()
        elif done == CALLS:
            finished.set_result(None)

    begin, cpu = time.perf_counter(), time.process_time()
    for _ in range(IN_FLIGHT):
        start()
    await finished
    return CALLS / (time.perf_counter() - begin), (time.process_time() - cpu) / CALLS * 1e6


def ours() -> Callable[[Callable[[], None]], None]:
    """Return what makes one of our calls."""
    caller, callee = (Ours(reactor, random.SystemRandom()) for _ in range(2))
    listen(caller)
    where = listen(callee)

    def call(answered: Callable[[], None]) -> None:
        def check(answer: Any) -> None:
            assert answer.value == PAYLOAD
            answered()

        caller.call(where, "ping", PAYLOAD).addCallback(check)

    return call


async def stock() -> Callable[[Callable[[], None]], None]:
    """Return what makes one of rpcudp's calls."""
    (_, caller), (there, _) = [await loop.create_datagram_endpoint(Stock, (ADDRESS, 0)) for _ in range(2)]
    where = there.get_extra_info("sockname")

    def call(answered: Callable[[], None]) -> None:
        def check(future: asyncio.Future[Any]) -> None:
            assert future.result() == (True, PAYLOAD)
            answered()

        caller.ping(where, PAYLOAD).add_done_callback(check)

    return call


def echo() -> Callable[[Callable[[], None]], None]:
    """Return what sends one datagram of the size of a ping, to be sent back."""
    caller, callee = Echo(), Echo()
    caller.waiting = []
    listen(caller)
    where = listen(callee)
    datagram = bytes(21) + b"ping" + PAYLOAD

    def call(answered: Callable[[], None]) -> None:
        caller.waiting.append(answered)
        caller.transport.write(datagram, where)

    return call


async def main(name: str) -> None:
    """Measure one of them, after a turn that warms up."""
    call = await stock() if name == "kademlia" else {"ours": ours, "echo": echo}[name]()
    await flood(call)
    rates, cpu = zip(*[await flood(call) for _ in range(TURNS)], strict=True)
    print(
        json.dumps({name: {"rpcs_per_s": statistics.median(rates), "rpc_cpu_us": statistics.median(cpu)}}),
        flush=True,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", choices=("ours", "kademlia", "echo"))
    loop.run_until_complete(main(parser.parse_args().name))
