"""Another peer as we know it: the triple of the paper's k-buckets."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from socket import AF_INET6, inet_ntop
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
    return canonical(value) is not None


def canonical(value: object) -> str | None:
    """Return an address in the spelling of the socket, which names senders by it, or None where it is none.

    An IPv6 address has many spellings, and an answer counts only from the address that was asked.
    """
    return _canonical(value) if type(value) is str and len(value) <= 45 else None


@lru_cache(maxsize=4096)  # the same addresses come again in every answer
def _canonical(value: str) -> str | None:
    try:
        address = ip_address(value)
    except ValueError:
        return None
    if address.is_unspecified or address.is_multicast:
        return None
    if isinstance(address, IPv6Address) and address.scope_id is None:
        return inet_ntop(AF_INET6, address.packed)  # unlike str(), it leaves IPv4 addresses mapped to IPv6 legible
    return str(address)


def parse_contact(value: object) -> Contact | None:
    """Return the contact that a triple received from outside describes, or None if it is not one."""
    if not isinstance(value, list) or len(value) != 3:
        return None
    node_id, address, port = value
    host = canonical(address)
    if host is None or not (is_id(node_id) and type(port) is int and 0 < port < 65536):
        return None
    return Contact(node_id, host, port)
