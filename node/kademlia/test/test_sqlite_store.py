"""The durable store against the forgetful one, against SIGKILL, and against a bad disk."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from kademlia.errors import QuotaExceeded, StorageError
from kademlia.records import Publication, Record, Value
from kademlia.sqlite_store import SCHEMA_VERSION, SQLiteStorage
from kademlia.storage import MemoryStorage

KEYS = st.sampled_from([bytes([n]) * 20 for n in range(6)])
TIMES = st.floats(0, 10)
VALUES = st.one_of(
    st.binary(max_size=20), st.text(max_size=20), st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False),
    st.booleans(),
)  # fmt: skip


def record(number: int, value: Value = b"value", received_at: float = 0.0, expires_at: float = 100.0) -> Record:
    """Return a record whose key sorts by its number."""
    return Record(number.to_bytes(20, "big"), value, 7, expires_at, received_at)


class StoreCase(SynchronousTestCase):
    """A store in a folder of its own."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp()).absolute() / "store.sqlite"

    def open(self, **quotas: int) -> SQLiteStorage:
        store = SQLiteStorage(self.path, **quotas)
        self.addCleanup(store.close)
        return store


class Durability(StoreCase):
    """What was put is there again."""

    def test_records_and_publications_survive_closing(self) -> None:
        """Values keep their type: 1, 1.0, True and "1" stay apart."""
        store = self.open()
        values: list[Value] = [1, 1.0, True, "1", b"1", "", b"", 2**64 - 1]
        for number, value in enumerate(values):
            store.put(record(number, value))
            store.publish(Publication(number.to_bytes(20, "big"), value, 3, float(number)))
        size = store.size
        store.close()
        again = self.open()
        self.assertEqual([repr(found.value) for found in again.page(None, 99)], [repr(value) for value in values])
        self.assertEqual(
            [repr(found.value) for found in again.published_before(99, 99)], [repr(value) for value in values]
        )
        self.assertEqual((again.count, again.size), (len(values), size))

    def test_what_put_returned_survives_sigkill(self) -> None:
        """A process that is killed right after the put has lost nothing."""
        program = (
            "import sys, time\n"
            "from kademlia.records import Record\n"
            "from kademlia.sqlite_store import SQLiteStorage\n"
            "store = SQLiteStorage(sys.argv[1])\n"
            "for n in range(500): store.put(Record(n.to_bytes(20, 'big'), b'x' * 50, n, 9e9, 1.0))\n"
            "print('done', flush=True)\n"
            "time.sleep(60)\n"
        )
        child = subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", program, str(self.path)], stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        with child.stdout:
            self.assertEqual(child.stdout.readline(), b"done\n")
        error = self.assertRaises(StorageError, SQLiteStorage, self.path)
        self.assertIn("another process uses it", str(error))
        child.send_signal(signal.SIGKILL)
        child.wait()
        store = self.open()
        self.assertEqual(store.count, 500)
        self.assertEqual(
            store.get((499).to_bytes(20, "big")), Record((499).to_bytes(20, "big"), b"x" * 50, 499, 9e9, 1.0)
        )


class Trouble(StoreCase):
    """Errors say what to do, and leave the store usable."""

    def test_a_full_disk_fails_the_put_and_nothing_else(self) -> None:
        """The record before is still there, and smaller ones still fit."""
        store = self.open()
        store.put(record(1))
        pages = store._db.execute("PRAGMA page_count").fetchone()[0]
        store._db.execute(f"PRAGMA max_page_count = {pages + 1}")
        error = self.assertRaises(StorageError, store.put, record(2, b"x" * 100_000))
        self.assertIn("no space is left", str(error))
        self.assertEqual((store.count, store.get(record(2).key)), (1, None))
        store.put(record(3))
        self.assertEqual(store.count, 2)

    def test_a_damaged_file_is_refused(self) -> None:
        """The advice is to move it away."""
        self.path.parent.mkdir(parents=True)
        self.path.write_bytes(b"no database at all, " * 100)
        error = self.assertRaises(StorageError, SQLiteStorage, self.path)
        self.assertIn("move it away", str(error))

    def test_a_store_of_a_newer_release_is_refused(self) -> None:
        """Its tables may mean something else."""
        store = self.open()
        store._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
        store.close()
        error = self.assertRaises(StorageError, SQLiteStorage, self.path)
        self.assertIn("newer release", str(error))

    def test_a_database_of_another_program_is_not_touched(self) -> None:
        """It has tables, but not ours."""
        self.path.parent.mkdir(parents=True)
        with sqlite3.connect(self.path) as other:
            other.execute("CREATE TABLE bookmark (url TEXT)")
        other.close()
        error = self.assertRaises(StorageError, SQLiteStorage, self.path)
        self.assertIn("another program's", str(error))

    def test_an_impossible_folder_is_refused(self) -> None:
        """Here a file stands in its place."""
        self.path.parent.write_text("")
        error = self.assertRaises(StorageError, SQLiteStorage, self.path)
        self.assertIn("data_dir", str(error))

    def test_a_record_whose_value_cannot_be_read_is_forgotten_and_the_others_served(self) -> None:
        """Its other holders have it still; one bad row must not make the whole store unreadable."""
        store = self.open()
        for number in (1, 2, 3):
            store.put(record(number))
        store._db.execute("UPDATE record SET value = x'c1' WHERE key = ?", (record(2).key,))
        assert store.page(None, 2) == [record(1), record(3)]
        assert store.get(record(2).key) is None
        assert store.count == 2

    def test_a_number_beyond_64_bits_is_refused(self) -> None:
        """A version may come from a stranger."""
        store = self.open()
        huge = Record(b"k" * 20, b"v", 2**70, 1.0, 1.0)
        self.assertRaises(StorageError, store.put, huge)
        self.assertEqual(store.count, 0)

    def test_a_closed_store_says_so(self) -> None:
        """Closing twice is no error."""
        store = self.open()
        store.close()
        store.close()
        self.assertRaises(StorageError, store.get, b"k" * 20)

    def test_quotas_refuse_and_change_nothing(self) -> None:
        """Replacing a record within the quotas is still possible."""
        store = self.open(max_keys=2, max_bytes=30)
        store.put(record(1, b"12345678"))
        store.put(record(2, b"12345678"))
        self.assertRaises(QuotaExceeded, store.put, record(3, b""))
        self.assertRaises(QuotaExceeded, store.put, record(1, b"1" * 30))
        self.assertEqual((store.count, store.size), (2, 20))
        store.put(record(1, b"other"))
        self.assertEqual((store.count, store.size), (2, 17))


class StoresAgree(RuleBasedStateMachine):
    """The durable store does what the one in memory does, also across reopening."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "store.sqlite"
        self.model = MemoryStorage(4, 60)
        self.store = SQLiteStorage(path, 4, 60)

    def teardown(self) -> None:
        """Release the file."""
        self.store.close()
        self.folder.cleanup()

    def both(self, method: str, *args: Any) -> None:
        """Do the same to both; results and refusals must be the same."""
        outcomes = []
        for store in (self.model, self.store):
            try:
                outcomes.append(getattr(store, method)(*args))
            except QuotaExceeded as error:
                outcomes.append(str(error))
        assert outcomes[0] == outcomes[1]

    @rule(key=KEYS, value=VALUES, version=st.integers(0, 5), expires_at=TIMES)
    def put(self, key: bytes, value: Value, version: int, expires_at: float) -> None:
        """Store records one after the other, as they arrive."""
        self.clock = getattr(self, "clock", 0.0) + 1
        self.both("put", Record(key, value, version, expires_at, self.clock))

    @rule(key=KEYS)
    def delete(self, key: bytes) -> None:
        """Forget one."""
        self.both("delete", key)

    @rule(now=TIMES)
    def expire(self, now: float) -> None:
        """Forget some."""
        self.both("expire", now)

    @rule(key=KEYS, value=VALUES, at=st.integers(0, 10))
    def publish(self, key: bytes, value: Value, at: int) -> None:
        """Ties in time would come in any order, so that each key has a time of its own."""
        self.both("publish", Publication(key, value, 1, at + key[0] / 10))

    @rule(key=KEYS)
    def unpublish(self, key: bytes) -> None:
        """Forget a publication."""
        self.both("unpublish", key)

    @rule()
    def reopen(self) -> None:
        """End the process and start it again."""
        self.store.close()
        self.store.reopen()

    @rule(after=st.none() | KEYS, limit=st.integers(0, 7), moment=st.integers(0, 30))
    def look(self, after: bytes | None, limit: int, moment: int) -> None:
        """Pages and what is due are the same."""
        self.both("page", after, limit)
        self.both("received_before", float(moment), limit)
        self.both("published_before", float(moment), limit)

    @invariant()
    def totals_agree(self) -> None:
        """Compare what is counted in memory."""
        assert (self.store.count, self.store.size) == (self.model.count, self.model.size)


class Model(SynchronousTestCase):
    """The store against a model."""

    def test_it_does_what_the_store_in_memory_does(self) -> None:
        """Whatever the order of operations, and across reopening."""
        run_state_machine_as_test(
            StoresAgree, settings=settings(max_examples=40, stateful_step_count=25, deadline=None)
        )
