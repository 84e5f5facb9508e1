"""Another peer as we know it: the triple of the paper's k-buckets."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address
from typing import NamedTuple

from kademlia.ids import is_id


class Contact(NamedTuple):
    """A peer's node ID and where it answers (paper, section 2.2: ⟨IP address, UDP port, Node ID⟩).

    A tuple in the order of the wire, so that a list of contacts is packed as it is.
    """

    id: bytes
    address: str
    port: int

    @property
    def home(self) -> tuple[str, int]:
        """Where it answers, as the transport wants it."""
        return self.address, self.port

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.id.hex()[:8]}@{host}:{self.port}"


def is_address(value: object) -> bool:
    """Tell whether a value received from outside is a numeric IPv4 or IPv6 address one can send to."""
    return type(value) is str and len(value) <= 45 and _is_address(value)


@lru_cache(maxsize=4096)  # the same addresses come again in every answer
def _is_address(value: str) -> bool:
    try:
        address = ip_address(value)
    except ValueError:
        return False
    return not (address.is_unspecified or address.is_multicast)


def parse_contact(value: object) -> Contact | None:
    """Return the contact that a triple received from outside describes, or None if it is not one."""
    if not isinstance(value, list) or len(value) != 3:
        return None
    node_id, address, port = value
    if not (is_id(node_id) and is_address(address) and type(port) is int and 0 < port < 65536):
        return None
    return Contact(node_id, address, port)
