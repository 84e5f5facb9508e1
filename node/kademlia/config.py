"""The peer's configuration file: TOML in, frozen typed settings out, or an error that names the key."""

from __future__ import annotations

import ipaddress
import os
import re
import secrets
import tomllib
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kademlia.errors import ConfigurationError
from kademlia.ids import ID_BYTES
from kademlia.intervals import PROFILES, Intervals
from kademlia.records import LEAST_MAX_VALUE, MAX_SIZE, MOST_MAX_VALUE
from kademlia.storage import MAX_BYTES, MAX_KEYS
from kademlia.tables import Table, parse_address

if TYPE_CHECKING:
    from kademlia.tables import Address

STORAGE_KINDS: Final = ("sqlite", "memory")
LOG_LEVELS: Final = ("debug", "info", "warn", "error")
LOG_FORMATS: Final = ("text", "json")
#: more than this does not fit into one answer, and no network has use for it
MAX_KSIZE: Final = 128

_ID = re.compile(r"[0-9a-fA-F]{40}")


@dataclass(frozen=True, slots=True)
class HTTPSettings:
    """Where the webserver listens."""

    address: str
    port: int = 8080


@dataclass(frozen=True, slots=True)
class StorageSettings:
    """Which store keeps the records, and its quotas."""

    kind: str = "sqlite"
    max_keys: int = MAX_KEYS
    max_bytes: int = MAX_BYTES
    #: bytes of the largest value that is published, taken from others or read
    max_value: int = MAX_SIZE


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a peer is told.  Paths are absolute; the bootstrap peers do not include this one."""

    address: str
    port: int = 8468
    bootstrap: tuple[Address, ...] = ()
    #: folder of node_id and store.sqlite; None only with storage in memory
    data_dir: Path | None = None
    #: configured node ID; `node_id` says which one is used without it
    id: bytes | None = None
    ksize: int = 20
    alpha: int = 3
    profile: str = "paper"
    intervals: Intervals = PROFILES["paper"]
    #: None: no webserver
    http: HTTPSettings | None = None
    storage: StorageSettings = StorageSettings()
    #: what `Authorization: Bearer` must carry for /control; None: there is no /control
    token: bytes | None = field(default=None, repr=False)
    log_level: str = "info"
    log_format: str = "text"


def load_settings(path: str | Path) -> Settings:
    """Read a configuration file; raises `ConfigurationError` naming the file, the key and what is allowed."""
    file = Path(path).absolute()
    root = Table(file, "", _read(file))
    tables = {
        name: Table(file, name, root.take(name, dict, f"a table: [{name}]", {} if name != "node" else None))
        for name in ("node", "intervals", "http", "storage", "control", "log")
    }
    root.finish()
    node, http, storage = tables["node"], tables["http"], tables["storage"]
    address = node.ip("address", own=True)
    port = node.integer("port", 8468, 1, 65535)
    profile = node.choice("profile", "paper", tuple(PROFILES))
    kind = storage.choice("kind", "sqlite", STORAGE_KINDS)
    data_dir = node.path("data_dir")
    if data_dir is None and kind == "sqlite":
        raise node.error("data_dir", 'the folder of the store (or set storage.kind = "memory")')
    settings = Settings(
        address=address,
        port=port,
        bootstrap=_bootstrap(node, (address, port)),
        data_dir=data_dir,
        id=_id(node),
        ksize=node.integer("ksize", 20, 1, MAX_KSIZE),
        alpha=node.integer("alpha", 3, 1, MAX_KSIZE),
        profile=profile,
        intervals=_intervals(tables["intervals"], PROFILES[profile]),
        http=HTTPSettings(http.ip("address", address), http.integer("port", 8080, 1, 65535)),
        storage=StorageSettings(
            kind,
            storage.integer("max_keys", MAX_KEYS, 1, 2**62),
            storage.integer("max_bytes", MAX_BYTES, 1, 2**62),
            storage.integer("max_value", MAX_SIZE, LEAST_MAX_VALUE, MOST_MAX_VALUE),
        ),
        token=_token(tables["control"]),
        log_level=tables["log"].choice("level", "info", LOG_LEVELS),
        log_format=tables["log"].choice("format", "text", LOG_FORMATS),
    )
    for table in tables.values():
        table.finish()
    return settings


def node_id(settings: Settings) -> bytes:
    """Return the 20-byte ID of the peer: the configured one, else the one kept in data_dir, else a new one.

    A new one is kept in data_dir/node_id before it is returned.  Raises `ConfigurationError` when the file is
    unreadable or does not hold 40 hex digits: a peer that changed its ID unnoticed would lose its records.
    """
    if settings.id is not None:
        return settings.id
    if settings.data_dir is None:
        return secrets.token_bytes(ID_BYTES)
    file = settings.data_dir / "node_id"
    try:
        if file.exists():
            text = file.read_text("ascii", errors="replace").strip()
            if not _ID.fullmatch(text):
                raise ConfigurationError(f"{file}: must hold 40 hex digits; delete it to draw a new node ID")
            return bytes.fromhex(text)
        drawn = secrets.token_bytes(ID_BYTES)
        _write_atomically(file, drawn.hex() + "\n")
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror}; data_dir must be writable by this user") from error
    return drawn


def _read(file: Path) -> dict[str, object]:
    try:
        return tomllib.loads(file.read_bytes().decode("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror}; name a readable configuration file") from error
    except (ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise ConfigurationError(f"{file}: not valid TOML: {error}") from error


def _bootstrap(node: Table, own: Address) -> tuple[Address, ...]:
    allowed = 'a list of "address:port" with numeric addresses (IPv6 in brackets), each one once'
    own_version = ipaddress.ip_address(own[0]).version
    found: dict[Address, None] = {}
    entries: list[object] = node.take("bootstrap", list, allowed, [])
    for entry in entries:
        try:
            peer = parse_address(entry) if isinstance(entry, str) else None
        except ValueError:
            peer = None
        if peer is None or peer in found:
            raise node.error("bootstrap", allowed, entry)
        if ipaddress.ip_address(peer[0]).version != own_version:
            raise node.error("bootstrap", "a list of addresses of the family of node.address", entry)
        found[peer] = None
    found.pop(own, None)
    return tuple(found)


def _id(node: Table) -> bytes | None:
    if not node.has("id"):
        return None
    text = node.take("id", str, "40 hex digits")
    if not _ID.fullmatch(text):
        raise node.error("id", "40 hex digits")
    return bytes.fromhex(text)


def _intervals(table: Table, base: Intervals) -> Intervals:
    overrides: dict[str, float] = {}
    for name in ("refresh", "replicate", "republish", "expire"):
        if table.has(name):
            overrides[name] = _seconds(table, name)
    return base.with_overrides(overrides)


def _seconds(table: Table, key: str) -> float:
    allowed = "a positive number of seconds"
    for kind in (int, float):
        with suppress(ConfigurationError, OverflowError):  # TOML's integers go beyond all floats
            value = float(table.take(key, kind, allowed))  # type: ignore[type-var]
            if 0 < value < float("inf"):
                return value
    raise table.error(key, allowed)


def _token(control: Table) -> bytes | None:
    file = control.path("token_file")
    if file is None:
        return None
    try:
        with file.open("rb") as stream:
            token = stream.read(4096).strip()  # a path given by mistake may lead to something without end
    except OSError as error:
        raise control.error("token_file", f"a readable file with the token ({error.strerror})") from error
    if not re.fullmatch(rb"[\x21-\x7e]{8,1024}", token):
        raise control.error("token_file", "a file with a token of 8 to 1024 printable ASCII characters, no spaces")
    return token


def _write_atomically(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with draft.open("w", encoding="ascii") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
