"""Load: values that can be recognised, fair choices, outcomes, and a rate that is kept or reported."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import made
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from scenarios.clock import RunClock
from scenarios.history import HistoryWriter, load
from scenarios.testbed.model import Peer
from scenarios.workload import Client, Ledger, Mix, Values, parse_popularity, run_open_loop
from scenarios.workload.openloop import other_peer


@given(key=st.text(max_size=40), seq=st.integers(0, 10**6), size=st.integers(96, 4000))
def test_a_value_has_the_size_asked_for_and_is_recognised(key: str, seq: int, size: int) -> None:
    """Whatever the key."""
    values = Values("run", size)
    value = values.make(key, seq)
    assert len(value) == size
    assert values.complaint(key, seq, value) == ""


@given(seq=st.integers(0, 5), at=st.integers(0, 255), flip=st.integers(1, 255))
def test_every_changed_byte_is_noticed(seq: int, at: int, flip: int) -> None:
    """There is no byte in a value that nobody checks."""
    values = Values("run", 256)
    value = bytearray(values.make("key", seq))
    value[at] ^= flip
    assert values.complaint("key", seq, bytes(value))


def test_a_wrong_answer_is_told_apart() -> None:
    """The complaint says what the bytes are."""
    values = Values("run", 200)
    value = values.make("key", 1)
    assert "another key" in values.complaint("key", 1, values.make("other", 1))
    assert "another version" in values.complaint("key", 1, values.make("key", 2))
    assert "another run" in values.complaint("key", 1, Values("run2", 200).make("key", 1))
    assert "cut off" in values.complaint("key", 1, value[:150])
    assert "changed bytes" in values.complaint("key", 1, value[:-1] + b"\0\0")
    assert "no run of this kit" in values.complaint("key", 1, b"hello")
    assert values.complaint("key", 1, b"")


@pytest.mark.parametrize("text", ["uniform", "zipf:0.5", "zipf:1", "zipf:2"])
def test_every_key_can_be_chosen_and_none_that_is_not_there(text: str) -> None:
    """Also with one key, and also the last one."""
    choose = parse_popularity(text)
    rng = random.Random(3)
    assert {choose(rng, 1) for _ in range(50)} == {0}
    assert {choose(rng, 5) for _ in range(5000)} == set(range(5))


def test_zipf_prefers_old_keys_as_its_exponent_says() -> None:
    """With exponent 1 the oldest of 1000 keys is chosen log(2)/log(1001) of the time."""
    choose = parse_popularity("zipf:1")
    rng = random.Random(3)
    first = sum(choose(rng, 1000) == 0 for _ in range(20_000)) / 20_000
    assert first == pytest.approx(0.1003, rel=0.1)


@given(st.lists(st.text(min_size=1, max_size=3), min_size=2, max_size=6, unique=True), st.integers(), st.data())
def test_reads_go_to_another_peer_than_the_write(peers: list[str], seed: int, data: st.DataObject) -> None:
    """A peer could answer from its own store; that would show nothing about the network."""
    writer = data.draw(st.sampled_from(peers))
    assert other_peer(peers, writer, random.Random(seed)) in set(peers) - {writer}
    assert other_peer([writer], writer, random.Random(seed)) == writer


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def ask(handler: Handler | None, tmp_path: Path, kind: str):
    """Send one operation to a server with this handler (None: nobody listens) and return its record."""
    app = web.Application()
    if handler is not None:
        app.router.add_route("*", "/{tail:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.01)
    await runner.setup()
    await web.TCPSite(runner, "127.0.51.1", 0).start()
    peer = Peer("peer1", "h", "127.0.51.1", 1, runner.addresses[0][1])
    if handler is None:
        await runner.cleanup()
    ledger = Ledger("run")
    with HistoryWriter(tmp_path / "history.jsonl", made.header()) as history:
        async with aiohttp.ClientSession() as session:
            client = Client(session, RunClock(), history, Values("run", 128), ledger, {"peer1": peer}, timeout=0.3)
            op = await getattr(client, kind)("a key/ä", 0, "peer1", phase="workload", intended=0.0)
    await runner.cleanup()
    return op, ledger


async def right(request: web.Request) -> web.StreamResponse:
    assert request.raw_path == "/dht/a%20key/%C3%A4"
    if request.method == "PUT":
        assert await request.read() == Values("run", 128).make("a key/ä", 0)
        return web.json_response({"replicas": 3})
    return web.Response(body=Values("run", 128).make("a key/ä", 0), headers={"X-Kademlia-Hops": "2"})


def answer(status: int, body: bytes = b'{"error": "because"}') -> Handler:
    async def handler(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=body)

    return handler


async def silent(_request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(10)
    return web.Response()


async def hang_up(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


@pytest.mark.parametrize(
    ("kind", "handler", "outcome"),
    [
        ("put", right, "ok"), ("get", right, "ok"),
        ("put", None, "fail"), ("get", None, "fail"),
        ("put", silent, "unknown"), ("get", silent, "fail"),
        ("put", hang_up, "unknown"), ("get", hang_up, "fail"),
        ("put", answer(413), "fail"), ("put", answer(507), "fail"),
        ("put", answer(500), "unknown"), ("put", answer(503), "unknown"),
        ("get", answer(404), "fail"), ("get", answer(500), "fail"),
        ("put", answer(200, b"what?"), "ok"),
    ],
)  # fmt: skip
def test_outcomes_say_what_is_certain(kind: str, handler: Handler | None, outcome: str, tmp_path: Path) -> None:
    """A put that may have taken effect is unknown; a get that gave no right value has failed."""
    op, ledger = asyncio.run(ask(handler, tmp_path, kind))
    assert op.outcome == outcome
    assert outcome == "ok" or op.detail
    assert not op.wrong
    assert (len(ledger.keys) == 1) == (kind == "put" and outcome == "ok")
    (stored,) = load(tmp_path / "history.jsonl").ops
    assert stored.outcome == outcome


def test_wrong_bytes_are_a_failed_get_that_says_so(tmp_path: Path) -> None:
    """A value that is not the key's is no success."""
    op, _ = asyncio.run(ask(answer(200, b"something else"), tmp_path, "get"))
    assert op.outcome == "fail"
    assert op.wrong


class Everyone:
    """A fleet whose one peer is always up."""

    def up(self) -> list[str]:
        """Return it."""
        return ["peer1"]


class SlowClient:
    """Takes a fixed time for every operation, and remembers when each was meant to begin."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.intended: list[float] = []
        self.tally = type("T", (), {"missed": 0})()

    async def put(self, *_: object, phase: str, intended: float) -> None:
        """Wait."""
        self.intended.append(intended)
        await asyncio.sleep(self.seconds)

    get = put


def run_loop(tmp_path: Path, mix: Mix, client: SlowClient, seconds: float):
    async def main() -> None:
        clock, stop = RunClock(), asyncio.Event()
        asyncio.get_running_loop().call_later(seconds, stop.set)
        with HistoryWriter(tmp_path / "history.jsonl", made.header()) as history:
            await run_open_loop(
                mix, client=client, ledger=Ledger("run"), fleet=Everyone(), history=history,  # type: ignore[arg-type]
                clock=clock, rng=random.Random(1), stop=stop,
            )  # fmt: skip

    asyncio.run(main())
    return load(tmp_path / "history.jsonl")


def test_slow_answers_do_not_slow_the_load_down(tmp_path: Path) -> None:
    """Starts are equally spaced in time, although each answer takes fifty times as long as the space."""
    client = SlowClient(0.25)
    run_loop(tmp_path, Mix(200, 0.5, parse_popularity("uniform")), client, 0.5)
    assert len(client.intended) == pytest.approx(100, abs=3)
    gaps = [b - a for a, b in zip(client.intended, client.intended[1:], strict=False)]
    assert all(gap == pytest.approx(1 / 200) for gap in gaps)


def test_starts_that_cannot_be_made_are_recorded_as_missed(tmp_path: Path) -> None:
    """With five in flight and none ending, every further start is missed, and none is forgotten."""
    client = SlowClient(0.4)
    mix = Mix(100, 0.5, parse_popularity("uniform"), max_in_flight=5)
    history = run_loop(tmp_path, mix, client, 0.3)
    assert len(client.intended) == 5
    assert len(client.intended) + history.missed_total == pytest.approx(30, abs=3)
    assert client.tally.missed == history.missed_total


def test_a_rate_beyond_all_strength_neither_holds_the_loop_up_nor_fills_the_disk(tmp_path: Path) -> None:
    """What cannot be started is counted at once: the loop ends in time, with a history of a few lines."""
    client = SlowClient(0.2)
    mix = Mix(100_000, 0.5, parse_popularity("uniform"), max_in_flight=20)
    begun = time.monotonic()
    history = run_loop(tmp_path, mix, client, 0.3)
    assert time.monotonic() - begun < 1.5
    assert len(client.intended) + history.missed_total == pytest.approx(30_000, rel=0.5)
    assert (tmp_path / "history.jsonl").stat().st_size < 2_000_000
