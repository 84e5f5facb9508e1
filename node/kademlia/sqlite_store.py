"""A store that survives its process: SQLite with a write-ahead log.

A commit is in the operating system's hands when `put` returns, so that SIGKILL of the process loses nothing; only
a crash of the whole machine may take the last moments with it (synchronous=NORMAL), never the store's integrity.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgpack
from twisted.logger import Logger

from kademlia.errors import QuotaExceeded, StorageError
from kademlia.records import Publication, Record, decode_value, encode_value, is_value
from kademlia.storage import MAX_BYTES, MAX_KEYS, PAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: raised whenever an older program could no longer read the tables
SCHEMA_VERSION: Final = 1
#: marks the file as ours ("Kadm"), so that no other program's database is written to
APPLICATION_ID: Final = 0x4B61646D

_SCHEMA: Final = f"""
BEGIN;
CREATE TABLE record (
    key BLOB PRIMARY KEY, value BLOB NOT NULL, version INTEGER NOT NULL,
    expires_at REAL NOT NULL, received_at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX record_received ON record (received_at);
CREATE INDEX record_expires ON record (expires_at);
CREATE TABLE publication (
    key BLOB PRIMARY KEY, value BLOB NOT NULL, version INTEGER NOT NULL, published_at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX publication_published ON publication (published_at);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""

_DAMAGED: Final = "it is damaged: move it away and start again, the other holders will restore its records"
_ADVICE: Final = {
    sqlite3.SQLITE_BUSY: "another process uses it: stop that peer, or give this one a data_dir of its own",
    sqlite3.SQLITE_LOCKED: "another process uses it: stop that peer, or give this one a data_dir of its own",
    sqlite3.SQLITE_FULL: "no space is left: free some on its disk",
    sqlite3.SQLITE_IOERR: "the disk failed or is full: check it and free some space",
    sqlite3.SQLITE_CANTOPEN: "check that its folder exists and is writable by this user",
    sqlite3.SQLITE_READONLY: "make the file and its folder writable by this user",
    sqlite3.SQLITE_PERM: "make the file and its folder writable by this user",
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
}

_Row = tuple[bytes, bytes, int, float, float]


class SQLiteStorage:
    """The `Storage` protocol on one SQLite file, which this process holds alone.

    Every operation raises `StorageError`, saying what to do, when the disk is full or the file is damaged; the
    store stays usable and unchanged.
    """

    _log = Logger()

    def __init__(self, path: str | Path, max_keys: int = MAX_KEYS, max_bytes: int = MAX_BYTES) -> None:
        """Open or create the store; raises `StorageError` when it is in use, damaged, foreign or newer."""
        self.path = Path(path)
        self.max_keys = max_keys
        self.max_bytes = max_bytes
        self.count = 0
        self.size = 0
        self._db = self._open()

    def get(self, key: bytes) -> Record | None:
        """Return the record of a key, or None."""
        found = self._records("SELECT * FROM record WHERE key = ? LIMIT ?", key, 1)
        return found[0] if found else None

    def put(self, record: Record) -> None:
        """Insert or replace a record; raises `QuotaExceeded` when the store is full."""
        value = encode_value(record.value)
        with self._advised("written"):
            old = self._db.execute("SELECT length(value) FROM record WHERE key = ?", (record.key,)).fetchone()
            size = self.size + len(value) - (old[0] if old else 0)
            if size > self.max_bytes or (old is None and self.count >= self.max_keys):
                raise QuotaExceeded(f"the store is full ({self.count} keys, {self.size} bytes)")
            self._db.execute(
                "INSERT OR REPLACE INTO record VALUES (?, ?, ?, ?, ?)",
                (record.key, value, record.version, record.expires_at, record.received_at),
            )
        self.count, self.size = self.count + (old is None), size

    def delete(self, key: bytes) -> None:
        """Forget a record."""
        with self._advised("written"):
            gone = self._db.execute("DELETE FROM record WHERE key = ? RETURNING length(value)", (key,)).fetchall()
        self._forget(gone)

    def page(self, after: bytes | None, limit: int) -> list[Record]:
        """Return records in key order."""
        return self._records("SELECT * FROM record WHERE key > ? ORDER BY key LIMIT ?", after or b"", limit)

    def received_before(self, moment: float, limit: int) -> list[Record]:
        """Return records whose last STORE is longest ago."""
        return self._records(
            "SELECT * FROM record WHERE received_at < ? ORDER BY received_at LIMIT ?", moment, limit
        )

    def expire(self, now: float) -> int:
        """Delete what has expired."""
        with self._advised("written"):
            gone = self._db.execute(
                "DELETE FROM record WHERE expires_at <= ? RETURNING length(value)", (now,)
            ).fetchall()
        self._forget(gone)
        return len(gone)

    def publish(self, publication: Publication) -> None:
        """Remember a publication."""
        with self._advised("written"):
            self._db.execute(
                "INSERT OR REPLACE INTO publication VALUES (?, ?, ?, ?)",
                (publication.key, encode_value(publication.value), publication.version, publication.published_at),
            )

    def unpublish(self, key: bytes) -> None:
        """Forget a publication."""
        with self._advised("written"):
            self._db.execute("DELETE FROM publication WHERE key = ?", (key,))

    def published_before(self, moment: float, limit: int) -> list[Publication]:
        """Return publications last published before a moment."""
        with self._advised("read"):
            rows = self._db.execute(
                "SELECT * FROM publication WHERE published_at < ? ORDER BY published_at LIMIT ?",
                (moment, max(0, limit)),
            ).fetchall()
            return [Publication(key, decode_value(value), version, at) for key, value, version, at in rows]

    def close(self) -> None:
        """Release the file; every later operation raises `StorageError`."""
        with self._advised("closed"):
            self._db.close()

    def reopen(self) -> None:
        """Open the file again after `close`, as a process that forks must: SQLite forbids crossing a fork."""
        self._db = self._open()

    def _open(self) -> sqlite3.Connection:
        db: sqlite3.Connection | None = None
        try:
            with self._advised("opened"):
                self._make_folder()
                # Another process holds the file for as long as it lives, so waiting for it is pointless.
                db = sqlite3.connect(self.path, timeout=0, isolation_level=None)
                db.execute("PRAGMA locking_mode = EXCLUSIVE")
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("PRAGMA synchronous = NORMAL")
                self._check_schema(db)
                self.count, self.size = db.execute(
                    "SELECT count(*), coalesce(sum(length(value)), 0) FROM record"
                ).fetchone()
        except BaseException:
            if db is not None:
                db.close()
            raise
        return db

    def _make_folder(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"store {self.path}: {error.strerror}; data_dir must be a writable folder"
            ) from error

    def _check_schema(self, db: sqlite3.Connection) -> None:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        (application,) = db.execute("PRAGMA application_id").fetchone()
        (tables,) = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if not tables and not version and not application:
            db.executescript(_SCHEMA)
        elif application != APPLICATION_ID:
            raise StorageError(f"{self.path} is another program's database: give this peer another data_dir")
        elif version > SCHEMA_VERSION:
            raise StorageError(
                f"store {self.path} was made by a newer release (schema {version}, known up to {SCHEMA_VERSION}): "
                "install that release, or move the store away"
            )

    def _records(self, query: str, bound: object, limit: int) -> list[Record]:
        """Return the records of a query; a damaged one is deleted, for the other holders to restore."""
        while True:
            with self._advised("read"):
                rows = _page_of(self._db.execute(query, (bound, max(0, limit))))
            records = [_record(row) for row in rows]
            damaged = [row[0] for row, record in zip(rows, records, strict=True) if record is None]
            if not damaged:
                return [record for record in records if record is not None]
            for key in damaged:
                self._log.error("{path}: the record {key} is damaged; deleted", path=self.path, key=key.hex())
                self.delete(key)

    def _forget(self, lengths: list[tuple[int]]) -> None:
        self.count -= len(lengths)
        self.size -= sum(length for (length,) in lengths)

    @contextmanager
    def _advised(self, verb: str) -> Iterator[None]:
        """Turn what SQLite raises into a `StorageError` that says what to do."""
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary code, without its extension
            advice = _ADVICE.get(code, "restart the peer; if that does not help, move the store away")
            raise StorageError(f"store {self.path} cannot be {verb} ({error}): {advice}") from error
        except (msgpack.exceptions.UnpackException, ValueError, TypeError) as error:
            raise StorageError(f"store {self.path} holds an unreadable value ({error}): {_DAMAGED}") from error
        except OverflowError as error:
            raise StorageError(f"store {self.path} cannot hold a number of more than 64 bits") from error


def _page_of(cursor: Iterable[_Row]) -> list[_Row]:
    """Return the rows of a query until their values reach the bytes of a page: they are copies."""
    rows: list[_Row] = []
    size = 0
    for row in cursor:
        rows.append(row)
        size += len(row[1])
        if size >= PAGE_BYTES:
            break
    return rows


def _record(row: _Row) -> Record | None:
    """Return the record of a row, or None where its value cannot be read any more."""
    key, blob, version, expires_at, received_at = row
    try:
        value = decode_value(blob)
    except (ValueError, TypeError, msgpack.exceptions.UnpackException):
        return None
    return Record(key, value, version, expires_at, received_at) if is_value(value) else None
