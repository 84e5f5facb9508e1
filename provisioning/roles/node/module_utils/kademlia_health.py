"""Ask peers over HTTP whether they have joined; only the standard library, because it runs on every host."""

from __future__ import annotations

import http.client
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: states in which a peer serves; "alone" is a network of one
JOINED = ("joined", "alone")
#: seconds between two rounds of questions, and for one answer
ROUND, ANSWER = 0.2, 3.0


def status(peer: dict[str, Any]) -> str:
    """Return the state that the peer reports, or why there is none."""
    connection = http.client.HTTPConnection(peer["address"], int(peer["http_port"]), timeout=ANSWER)
    try:
        connection.request("GET", "/status")
        return str(json.loads(connection.getresponse().read())["state"])
    except OSError as error:
        return f"no answer ({error.strerror or error})"
    except (http.client.HTTPException, ValueError, KeyError, TypeError):
        return "an answer that is not a peer's"
    finally:
        connection.close()


def wait_until_joined(
    peers: Sequence[dict[str, Any]], timeout: float, failed: Callable[[], dict[str, str]]
) -> dict[str, str]:
    """Wait until every peer has joined; return the last words of those that did not, by name.

    Gives up early on peers for which `failed` has a reason: the service manager knows first.
    """
    deadline = time.monotonic() + timeout
    pending = {peer["name"]: peer for peer in peers}
    with ThreadPoolExecutor(max_workers=16) as pool:
        while True:
            answers = dict(zip(pending, pool.map(status, pending.values()), strict=True))
            pending = {name: peer for name, peer in pending.items() if answers[name] not in JOINED}
            if not pending:
                return {}
            given_up = {name: reason for name, reason in failed().items() if name in pending}
            if given_up or time.monotonic() >= deadline:
                return {name: given_up.get(name, answers[name]) for name in pending}
            time.sleep(ROUND)


def complaint(unjoined: dict[str, str], peers: Sequence[dict[str, Any]], tail: Callable[[str], str]) -> str:
    """Return the error for peers that have not joined: their states, and the end of the first one's log."""
    places = {peer["name"]: f"{peer['address']}:{peer['http_port']}" for peer in peers}
    named = [f"{name} ({places[name]}): {reason}" for name, reason in unjoined.items()]
    more = f" and {len(named) - 5} more" if len(named) > 5 else ""
    first = next(iter(unjoined))
    return f"not joined: {'; '.join(named[:5])}{more}. The log of {first} ends: {tail(first) or '(empty)'}"
