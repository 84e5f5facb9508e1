"""A peer of PyPI's kademlia 2.2.3, driven by JSON lines; runs in an environment of its own.

    python stock_peer.py ADDRESS PORT KSIZE [BOOTSTRAP_ADDRESS:PORT ...]

It prints `{"ready": …}` once it has bootstrapped, then answers each line `["set", key, value]`, `["get", key]` or
`["asked"]` (the names of all RPCs that it was sent) of its standard input with `{"result": …}`; bytes travel as
latin-1 text.  It ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys

from kademlia.network import Server  # type: ignore[import-not-found,unused-ignore]  # the stock one
from rpcudp.protocol import RPCProtocol


def watch(asked: set[str]) -> None:
    """Note the name of every request, also of those that are not served."""
    accept = RPCProtocol._accept_request

    async def noting(self: object, msg_id: bytes, data: list[object], address: object) -> None:
        asked.add(str(data[0]))
        await accept(self, msg_id, data, address)

    RPCProtocol._accept_request = noting


async def main(address: str, port: str, ksize: str, *bootstrap: str) -> None:
    """Serve until standard input ends."""
    logging.disable(logging.CRITICAL)
    asked: set[str] = set()
    watch(asked)
    server = Server(ksize=int(ksize))
    await server.listen(int(port), interface=address)
    where = [(host, int(number)) for host, _, number in (peer.rpartition(":") for peer in bootstrap)]
    found = await server.bootstrap(where)
    print(json.dumps({"ready": len(found)}), flush=True)
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        verb, key, *value = [*json.loads(line), ""]
        if verb == "set":
            result = await server.set(key, value[0].encode("latin-1"))
        elif verb == "asked":
            result = sorted(asked)
        else:
            result = await server.get(key)
            result = result.decode("latin-1") if isinstance(result, bytes) else result
        print(json.dumps({"result": result}), flush=True)
    server.stop()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
