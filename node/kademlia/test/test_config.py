"""The configuration file: what is accepted, and how the rest is refused."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kademlia.config import HTTPSettings, StorageSettings, load_settings, node_id
from kademlia.errors import ConfigurationError
from kademlia.intervals import PROFILES, Intervals
from kademlia.tables import parse_address

MINIMAL = '[node]\naddress = "127.0.60.1"\ndata_dir = "data"\n'


class ConfigCase(SynchronousTestCase):
    """A folder to write configuration files into."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)
        self.file = self.folder / "peer.toml"

    def load(self, text: str) -> object:
        self.file.write_text(text)
        return load_settings(self.file)

    def refusal(self, text: str) -> str:
        """Return the message with which a file is refused."""
        return str(self.assertRaises(ConfigurationError, self.load, text))


class Accepted(ConfigCase):
    """Files that configure a peer."""

    def test_a_minimal_file_gets_the_documented_defaults(self) -> None:
        """Address and data_dir are enough for a peer with the durable store."""
        found = load_settings(self.write(MINIMAL))
        self.assertEqual((found.address, found.port, found.bootstrap), ("127.0.60.1", 8468, ()))
        self.assertEqual((found.ksize, found.alpha, found.profile), (20, 3, "paper"))
        self.assertEqual(found.intervals, PROFILES["paper"])
        self.assertEqual(found.http, HTTPSettings("127.0.60.1", 8080))
        self.assertEqual(found.storage, StorageSettings("sqlite", 1_000_000, 1 << 30, 1 << 20))
        self.assertIsNone(found.token)
        self.assertEqual((found.log_level, found.log_format), ("info", "text"))

    def test_paths_are_relative_to_the_file_and_not_to_the_working_directory(self) -> None:
        """A service manager starts the peer anywhere."""
        (self.folder / "token").write_text("a-long-token\n")
        found = load_settings(self.write(MINIMAL + '[control]\ntoken_file = "token"\n'))
        self.assertEqual(found.data_dir, self.folder / "data")
        self.assertEqual(found.token, b"a-long-token")

    def test_the_token_does_not_show_in_logs(self) -> None:
        """Settings are printable without giving the secret away."""
        (self.folder / "token").write_text("a-long-token")
        found = load_settings(self.write(MINIMAL + '[control]\ntoken_file = "token"\n'))
        self.assertNotIn("a-long-token", repr(found))

    def test_the_peer_itself_is_no_bootstrap_peer(self) -> None:
        """Every peer may be given the same list."""
        found = load_settings(self.write(MINIMAL + 'bootstrap = ["127.0.60.1:8468", "127.0.60.2:8469"]\n'))
        self.assertEqual(found.bootstrap, (("127.0.60.2", 8469),))

    def test_intervals_override_the_profile_one_by_one(self) -> None:
        """The others keep the profile's value."""
        found = load_settings(self.write(MINIMAL + 'profile = "lab"\n[intervals]\nexpire = 7\nrefresh = 0.5\n'))
        self.assertEqual(found.intervals, Intervals(0.5, 60.0, 1440.0, 7.0))

    def test_ipv6_works_with_brackets_in_bootstrap(self) -> None:
        """Addresses are compared in their shortest spelling."""
        text = '[node]\naddress = "0:0::1"\nbootstrap = ["[::1]:8468", "[::2]:1"]\n[storage]\nkind = "memory"\n'
        found = load_settings(self.write(text))
        self.assertEqual((found.address, found.bootstrap), ("::1", (("::2", 1),)))

    def test_the_largest_value_is_configurable_within_bounds(self) -> None:
        """From what any peer of the network takes to what can be hashed in one turn of the loop."""
        for size in (8192, 3 << 20, 16 << 20):
            found = load_settings(self.write(MINIMAL + f"[storage]\nmax_value = {size}\n"))
            self.assertEqual(found.storage.max_value, size)

    def write(self, text: str) -> Path:
        self.file.write_text(text)
        return self.file


class Refused(ConfigCase):
    """Every refusal names the file, the key and what is allowed."""

    def test_impossible_values_are_refused_by_name(self) -> None:
        """One wrong key at a time, each named."""
        wrong = {
            "node.address": [
                'address = "localhost"',
                'address = "0.0.0.0"',
                "address = 1",
                'address = "224.0.0.1"',
            ],
            "node.port": ["port = 0", "port = 65536", 'port = "1"', "port = true", "port = 1.0"],
            "node.ksize": ["ksize = 0", "ksize = true", "ksize = 1000"],
            "node.alpha": ["alpha = 0", "alpha = -1"],
            "node.profile": ['profile = "fast"', "profile = 1"],
            "node.id": ['id = "12"', 'id = "' + "g" * 40 + '"', "id = 3"],
            "node.bootstrap": [
                'bootstrap = "127.0.0.1:1"',
                "bootstrap = [1]",
                'bootstrap = ["localhost:8468"]',
                'bootstrap = ["127.0.0.1"]',
                'bootstrap = ["127.0.0.1:0"]',
                'bootstrap = ["127.0.0.1:99999"]',
                'bootstrap = ["127.0.0.1:1", "127.0.0.1:1"]',
                'bootstrap = ["::1:1"]',
                'bootstrap = ["[::1]:1"]',
            ],
        }
        for key, lines in wrong.items():
            for line in lines:
                base = MINIMAL if not line.startswith("address") else '[node]\ndata_dir = "d"\n'
                message = self.refusal(base + line + "\n")
                self.assertIn(str(self.file), message)
                self.assertIn(f"{key} must be", message, line)
                self.assertNotIn("\n", message)

    def test_a_refusal_is_one_line_that_can_be_read(self) -> None:
        """However long a name or a number is, and whatever is in it; found by fuzzing."""
        for line in (
            "port = 0x" + "f" * 5000,
            f"bootstrap = [0x{'f' * 5000}]",
            "x" * 5000 + " = 1",
            '"a\\nb" = 1',
            f"[{'x' * 5000}]",
            "[log]\n" + "x" * 5000 + " = 1",
        ):
            message = self.refusal(MINIMAL + line + "\n")
            self.assertIn(str(self.file), message)
            self.assertLess(len(message), len(str(self.file)) + 300)
            self.assertNotIn("\n", message)

    def test_wrong_values_of_the_other_tables_are_refused_by_name(self) -> None:
        """Tables after [node] are checked alike."""
        wrong = {
            "intervals.refresh": "[intervals]\nrefresh = 0",
            "intervals.expire": "[intervals]\nexpire = inf",
            "intervals.replicate": "[intervals]\nreplicate = true",
            "intervals.republish": "[intervals]\nrepublish = 1" + "0" * 400,  # found by fuzzing: beyond all floats
            "http.port": "[http]\nport = 70000",
            "http.address": '[http]\naddress = "here"',
            "storage.kind": '[storage]\nkind = "redis"',
            "storage.max_keys": "[storage]\nmax_keys = 0",
            "storage.max_bytes": "[storage]\nmax_bytes = 1.5",
            "storage.max_value": "[storage]\nmax_value = 8191",
            "log.level": '[log]\nlevel = "loud"',
            "log.format": '[log]\nformat = "xml"',
            "control.token_file": '[control]\ntoken_file = "nowhere"',
            "http": "http = 3",
        }
        for key, text in wrong.items():
            message = self.refusal(text + "\n" + MINIMAL if key == "http" else MINIMAL + text + "\n")
            self.assertIn(f": {key} must be", message)

    def test_an_unknown_key_or_table_is_refused_with_those_there_are(self) -> None:
        """A misspelt key must not be ignored."""
        self.assertIn("node.prot is unknown; [node] may have address, port", self.refusal(MINIMAL + "prot = 1\n"))
        self.assertIn("htp is unknown; the file may have node", self.refusal(MINIMAL + "[htp]\n"))

    def test_what_is_required_is_asked_for(self) -> None:
        """An address always, data_dir for the durable store."""
        self.assertIn("node.address is missing", self.refusal("[node]\n"))
        self.assertIn("node is missing", self.refusal(""))
        self.assertIn("node.data_dir is missing", self.refusal('[node]\naddress = "127.0.0.1"\n'))

    def test_files_that_are_no_toml_are_refused(self) -> None:
        """Neither bad syntax, nor bad bytes, nor deep nesting escapes as another error."""
        for content in (b"[node", b"\xff\xfe", b"a = " + b"[" * 100_000):
            self.file.write_bytes(content)
            self.assertRaises(ConfigurationError, load_settings, self.file)

    def test_an_unreadable_file_is_named(self) -> None:
        """So is a folder in its place."""
        for path in (self.folder / "nowhere.toml", self.folder):
            error = self.assertRaises(ConfigurationError, load_settings, path)
            self.assertIn(str(path), str(error))

    def test_a_weak_or_broken_token_is_refused(self) -> None:
        """An empty token file would let everybody in."""
        for token in ("", "short", "two words of token"):
            (self.folder / "token").write_text(token)
            self.assertIn("control.token_file", self.refusal(MINIMAL + '[control]\ntoken_file = "token"\n'))


class NodeID(ConfigCase):
    """Who the peer is stays the same from start to start."""

    def test_an_id_is_drawn_once_and_kept(self) -> None:
        """The second start finds the first one's ID, and no draft is left behind."""
        self.file.write_text(MINIMAL)
        found = load_settings(self.file)
        first = node_id(found)
        self.assertEqual(len(first), 20)
        self.assertEqual(node_id(found), first)
        self.assertEqual((self.folder / "data/node_id").read_text(), first.hex() + "\n")
        self.assertEqual([path.name for path in (self.folder / "data").iterdir()], ["node_id"])

    def test_a_configured_id_wins(self) -> None:
        """And nothing is written."""
        self.file.write_text(MINIMAL + 'id = "' + "AB" * 20 + '"\n')
        self.assertEqual(node_id(load_settings(self.file)), b"\xab" * 20)
        self.assertFalse((self.folder / "data").exists())

    def test_a_damaged_id_file_is_not_replaced_silently(self) -> None:
        """A peer with another ID would hold records that are no longer its own."""
        self.file.write_text(MINIMAL)
        (self.folder / "data").mkdir()
        (self.folder / "data/node_id").write_text("0123")
        error = self.assertRaises(ConfigurationError, node_id, load_settings(self.file))
        self.assertIn("40 hex digits", str(error))

    def test_an_unwritable_folder_is_an_error_that_says_so(self) -> None:
        """Here a file stands in its place."""
        self.file.write_text(MINIMAL)
        (self.folder / "data").write_text("")
        error = self.assertRaises(ConfigurationError, node_id, load_settings(self.file))
        self.assertIn("data_dir must be writable", str(error))


class RoundTrips(SynchronousTestCase):
    """Whatever is allowed arrives as it was written."""

    @settings(max_examples=60, deadline=None)
    @given(
        address=st.ip_addresses().filter(lambda ip: not ip.is_multicast and not ip.is_unspecified),
        port=st.integers(1, 65535),
        ksize=st.integers(1, 128),
        expire=st.floats(0.001, 1e9),
        keys=st.integers(1, 2**62),
    )
    def test_allowed_values_arrive(self, address: object, port: int, ksize: int, expire: float, keys: int) -> None:
        """Numbers and addresses survive the file."""
        file = Path(self.mktemp()).absolute()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(
            f"[node]\naddress = {json.dumps(str(address))}\nport = {port}\nksize = {ksize}\n"
            f'[intervals]\nexpire = {expire!r}\n[storage]\nkind = "memory"\nmax_keys = {keys}\n'
        )
        found = load_settings(file)
        self.assertEqual((found.address, found.port, found.ksize), (str(address), port, ksize))
        self.assertEqual((found.intervals.expire, found.storage.max_keys), (expire, keys))

    @given(text=st.text(max_size=30))
    def test_an_address_is_parsed_or_refused_with_valueerror(self, text: str) -> None:
        """No text makes the parser fail otherwise."""
        try:
            address, port = parse_address(text)
        except ValueError:
            return
        self.assertIsInstance(address, str)
        self.assertTrue(0 < port < 65536)
