"""A Kademlia peer on Twisted and rpcudp.

`kademlia.network.Server` is the public API; `docs/architecture.md` in the repository is the map.
"""

__version__ = "0.1.0"
