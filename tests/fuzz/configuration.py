"""Configuration texts: settings or a refusal that names the file, and nothing else."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness import Finding, main
from kademlia.config import load_settings
from kademlia.errors import ConfigurationError

if TYPE_CHECKING:
    import random

TABLES: Final = (b"[node]", b"[intervals]", b"[http]", b"[storage]", b"[control]", b"[log]", b"[[node]]", b"[x]")
KEYS: Final = (
    b"address", b"port", b"bootstrap", b"data_dir", b"id", b"ksize", b"alpha", b"profile", b"refresh", b"expire",
    b"kind", b"max_keys", b"max_bytes", b"max_value", b"token_file", b"level", b"format", b"node.x", b'""', b"x",
)  # fmt: skip
VALUES: Final = (
    b'"127.0.0.1"', b'"::1"', b'"fe80::1%lo"', b"8468", b"-1", b"0x7f", b"1e400", b"nan", b"true", b'""', b"[]",
    b'["127.0.0.1:1", "[::1]:2"]', b'"lab"', b'"memory"', b'"json"', b'"."', b'"\\u0000"', b"{}", b"{a = {b = 1}}",
    b"1979-05-27", b'"""\n"""', b"9" * 5000, b"[" * 1500, b'"aa"', b'"' + b"0a" * 20 + b'"', b'"debug"', b"1.5",
)  # fmt: skip
#: what is accepted, by table: values drawn at random are refused too often to get beyond the first tables
ACCEPTED: Final = {
    b"[node]": (
        b'address = "127.0.0.1"', b'data_dir = "."', b"port = 1", b'bootstrap = ["127.0.0.1:1"]',
        b'id = "' + b"0a" * 20 + b'"', b"ksize = 8", b"alpha = 2", b'profile = "lab"',
    ),
    b"[intervals]": (b"refresh = 1.5", b"replicate = 2", b"republish = 3", b"expire = 4"),
    b"[http]": (b'address = "::1"', b"port = 2"),
    b"[storage]": (b'kind = "memory"', b"max_keys = 9", b"max_bytes = 9"),
    b"[control]": (b'token_file = "aa"',),
    b"[log]": (b'level = "debug"', b'format = "json"'),
}  # fmt: skip


class Configuration:
    """Each input is the text of a file."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._file = Path(self._folder.name, "peer.toml")
        Path(self._folder.name, "aa").write_text("a-long-token")

    def one(self, data: bytes) -> None:
        """Read one file."""
        self._file.write_bytes(data)
        try:
            settings = load_settings(self._file)
        except ConfigurationError as error:
            if str(self._file) not in str(error) or len(str(error)) > 1000:
                raise Finding(f"a refusal that does not help: {error}") from None
        else:
            repr(settings)

    def rest(self) -> None:
        """Nothing goes on."""

    def check(self) -> dict[str, int]:
        """Nothing may be left behind: neither files nor descriptors."""
        places = {"files": Path(self._folder.name), "descriptors": Path("/proc/self/fd")}
        sizes = {name: len(list(place.iterdir())) for name, place in places.items()}
        if sizes["files"] != 2 or sizes["descriptors"] > 20:
            raise Finding(f"left behind: {sizes}")
        return sizes

    def draw(self, rng: random.Random) -> bytes:
        """Return lines of a configuration file, most of which make sense."""
        lines: list[bytes] = []
        for table, settings in ACCEPTED.items():
            if rng.random() < (0.9 if table == b"[node]" else 0.3):
                lines += [table, *(line for line in settings if rng.random() < 0.8)]
        for _ in range(rng.choice((0, 1, 2, 8))):
            if rng.random() < 0.3:
                lines.append(rng.choice(TABLES))
            else:
                lines.append(rng.choice(KEYS) + b" = " + rng.choice(VALUES))
        data = bytearray(b"\n".join(lines))
        if rng.random() < 0.3 and data:
            at = rng.randrange(len(data))
            data[at : at + rng.randrange(4)] = rng.randbytes(rng.randrange(4))
        return bytes(data)


if __name__ == "__main__":
    main(Configuration)
