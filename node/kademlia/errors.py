"""Every error this package raises on purpose; the message tells the user what to do."""


class KademliaError(Exception):
    """Base of every error raised by this package."""


class ConfigurationError(KademliaError):
    """A setting is missing, unreadable or impossible; nothing was started."""


class ListenError(KademliaError):
    """The UDP or HTTP address cannot be bound."""


class BootstrapError(KademliaError):
    """No bootstrap peer is usable."""


class NoPeersReachable(KademliaError):
    """The operation needs another peer and none answered."""


class ValueTooLarge(KademliaError):
    """The value is larger than `max_value` of this peer, or of the peers that would hold it."""


class Superseded(KademliaError):
    """Somebody else published a newer value under the same key meanwhile, which wins."""


class QuotaExceeded(KademliaError):
    """The store is full."""


class StorageError(KademliaError):
    """The durable store cannot be opened, read or written."""


class StateFileError(KademliaError):
    """A saved state file is unreadable or of an unsafe format."""
