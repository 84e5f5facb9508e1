"""Checked reading of a TOML table: every refusal names the file, the key and what is allowed."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, TypeVar

from kademlia.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

Address = tuple[str, int]

_T = TypeVar("_T", str, int, list[object], dict[str, object])


class Table:
    """One table of the file; hands out checked values and then refuses what nobody asked for."""

    def __init__(self, file: Path, name: str, values: dict[str, object]) -> None:
        self._file = file
        self._name = name
        self._values = values
        self._known: list[str] = []

    def error(self, key: str, allowed: str, culprit: object = None) -> ConfigurationError:
        """Return the error that says what the key may be; `culprit`: which entry of a list is not."""
        where = f"{self._name}.{key}" if self._name else key
        if key not in self._values:
            return ConfigurationError(f"{self._file}: {where} is missing: it must be {allowed}")
        shown = _shown(self._values[key] if culprit is None else culprit)
        return ConfigurationError(f"{self._file}: {where} must be {allowed}, not {shown}")

    def take(self, key: str, kind: type[_T], allowed: str, default: _T | None = None) -> _T:
        """Return the value of a key; without a default it is required."""
        self._known.append(key)
        if default is not None and key not in self._values:
            return default
        value = self._values.get(key)
        if type(value) is not kind:  # not isinstance: TOML's true is no 1
            raise self.error(key, allowed)
        return value

    def has(self, key: str) -> bool:
        """Tell whether an optional key is there."""
        self._known.append(key)
        return key in self._values

    def integer(self, key: str, default: int, low: int, high: int) -> int:
        """Return an integer within bounds."""
        allowed = f"an integer from {low} to {high}"
        value = self.take(key, int, allowed, default)
        if not low <= value <= high:
            raise self.error(key, allowed)
        return value

    def choice(self, key: str, default: str, among: tuple[str, ...]) -> str:
        """Return one of the words allowed."""
        allowed = "one of " + ", ".join(f'"{word}"' for word in among)
        value = self.take(key, str, allowed, default)
        if value not in among:
            raise self.error(key, allowed)
        return value

    def ip(self, key: str, default: str | None = None, *, own: bool = False) -> str:
        """Return a numeric address in its shortest spelling; `own`: one at which others can reach this peer."""
        allowed = "a numeric IPv4 or IPv6 address"
        value = self.take(key, str, allowed, default)
        try:
            address = ipaddress.ip_address(value)
        except ValueError:
            raise self.error(key, allowed) from None
        if address.is_multicast or (own and address.is_unspecified):
            raise self.error(key, f"{allowed} of this host (others are told it)" if own else allowed)
        return str(address)

    def path(self, key: str) -> Path | None:
        """Return a path, taken relative to the file's folder."""
        if not self.has(key):
            return None
        value = self.take(key, str, "a path")
        if not value or "\0" in value:
            raise self.error(key, "a path")
        return self._file.parent / value

    def finish(self) -> None:
        """Refuse the keys that were not asked for."""
        for key in self._values:
            if key not in self._known:
                where = f"[{self._name}]" if self._name else "the file"
                name = key if re.fullmatch(r"[A-Za-z0-9_-]{1,60}", key) else _shown(key)
                raise ConfigurationError(
                    f"{self._file}: {self._name + '.' if self._name else ''}{name} is unknown; "
                    f"{where} may have {', '.join(dict.fromkeys(self._known))}"
                )


def _shown(value: object) -> str:
    """Return a value as a short line."""
    try:
        shown = repr(value)
    except ValueError:  # an integer of thousands of digits, which only its hexadecimal form can have
        return "a number far too large"
    return shown if len(shown) <= 60 else shown[:57] + "..."


def parse_address(text: str) -> Address:
    """Return "127.0.0.1:8468" or "[::1]:8468" as an (address, port) pair; raises ValueError."""
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    address = ipaddress.ip_address(host[1:-1] if bracketed else host)
    if bracketed != (address.version == 6):
        raise ValueError("an IPv6 address stands in brackets")
    if address.is_multicast or address.is_unspecified:
        raise ValueError("not the address of one peer")
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise ValueError("the port is an integer from 1 to 65535")
    return str(address), int(port)
