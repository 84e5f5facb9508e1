"""The HTTP endpoints, spoken to byte by byte on a transport without sockets."""

from __future__ import annotations

import json
from dataclasses import replace

import yaml
from twisted.internet.defer import Deferred

from kademlia.errors import NoPeersReachable, QuotaExceeded, StorageError, Superseded, ValueTooLarge
from kademlia.ids import digest
from kademlia.records import Record
from kademlia.test.webcase import BEARER, LIMIT, Answer, WebCase


class Values(WebCase):
    """PUT and GET of values."""

    def test_a_value_comes_back_as_it_was_put(self) -> None:
        """With the documented answer and headers."""
        put = self.ask(b"PUT", b"/dht/one", b"hi there")
        self.assertEqual(put.code, 200)
        expected = {
            "key": "one",
            "digest": digest("one").hex(),
            "version": 5,
            "replicas": 3,
            "asked": 4,
            "size": 8,
        }
        self.assertEqual(put.json, expected)
        got = self.ask(b"GET", b"/dht/one")
        self.assertEqual((got.code, got.body), (200, b"hi there"))
        self.assertEqual(got.headers["content-type"], "application/octet-stream")
        self.assertEqual((got.headers["x-kademlia-version"], got.headers["x-kademlia-hops"]), ("5", "2"))
        self.assertEqual(got.headers["x-content-type-options"], "nosniff")

    def test_head_has_the_headers_of_get_and_no_body(self) -> None:
        """Its length included."""
        self.server.values[b"one"] = b"hi there"
        got = self.ask(b"HEAD", b"/dht/one")
        self.assertEqual((got.code, got.body, got.headers["content-length"]), (200, b"", "8"))

    def test_a_posted_form_is_a_value_and_not_a_form(self) -> None:
        """`curl --data` calls everything a form; a broken multipart is a value, too."""
        for kind in (b"application/x-www-form-urlencoded", b"multipart/form-data; boundary=x", b"\xff"):
            self.assertEqual(self.ask(b"POST", b"/dht/k", b"a=1&b", b"Content-Type: " + kind).code, 200)
            self.assertEqual(self.server.values[b"k"], b"a=1&b")

    def test_values_of_plain_peers_are_shown_as_text(self) -> None:
        """A stock peer stores numbers and text."""
        self.server.values.update({b"n": 7, b"t": "é"})
        self.assertEqual(self.ask(b"GET", b"/dht/n").body, b"7")
        self.assertEqual(self.ask(b"GET", b"/dht/t").body, "é".encode())

    def test_an_empty_value_is_a_value(self) -> None:
        """It is not a missing one."""
        self.assertEqual(self.ask(b"PUT", b"/dht/k").code, 200)
        got = self.ask(b"GET", b"/dht/k")
        self.assertEqual((got.code, got.headers["content-length"]), (200, "0"))

    def test_a_missing_value_is_a_404_in_json(self) -> None:
        """As every error."""
        got = self.ask(b"GET", b"/dht/none")
        self.assertEqual((got.code, got.headers["content-type"]), (404, "application/json"))
        self.assertEqual(list(got.json), ["error"])

    def test_the_key_is_the_whole_decoded_path(self) -> None:
        """Slashes, escaped or not, NUL, bytes that are no UTF-8, dots, a colon; the query is no part of it."""
        for path, key in (
            (b"a/b", b"a/b"), (b"a%2Fb", b"a/b"), (b"/", b"/"), (b"a//b/", b"a//b/"), (b"%00", b"\0"),
            (b"%ff%FE", b"\xff\xfe"), (b"%c3%a9", "é".encode()), (b"..", b".."), (b"a+b", b"a+b"),
            (b"k?trace=0", b"k"), (b"%", b"%"), (b"%zz", b"%zz"), (b"x" * 1024, b"x" * 1024), (b"a:b", b"a:b"),
        ):  # fmt: skip
            self.server.values.clear()
            self.assertEqual(self.ask(b"PUT", b"/dht/" + path, b"v").code, 200, path)
            self.assertEqual(list(self.server.values), [key])
            self.assertEqual(self.ask(b"GET", b"/dht/" + path).body, b"v")

    def test_empty_and_overlong_keys_are_refused(self) -> None:
        """400 and 414."""
        self.assertEqual(self.ask(b"PUT", b"/dht/", b"v").code, 400)
        self.assertEqual(self.ask(b"GET", b"/dht/" + b"x" * 1025).code, 414)
        self.assertEqual(self.server.values, {})

    def test_the_network_s_refusals_have_their_own_status(self) -> None:
        """And say what the error says."""
        for failure, code in (
            (ValueTooLarge("too large"), 413), (NoPeersReachable("nobody"), 503), (QuotaExceeded("full"), 507),
            (Superseded("newer"), 409),
        ):  # fmt: skip
            self.server.failure = failure
            answer = self.ask(b"PUT", b"/dht/k", b"v")
            self.assertEqual((answer.code, answer.json), (code, {"error": str(failure)}))

    def test_an_unexpected_error_is_logged_and_not_shown(self) -> None:
        """No traceback reaches a client, nor a path of this host."""
        for failure in (ZeroDivisionError("secret"), StorageError("secret")):
            self.server.failure = failure
            answer = self.ask(b"GET", b"/dht/k")
            self.assertEqual(answer.code, 500)
            self.assertNotIn(b"secret", answer.body)
            self.assertEqual(len(self.flushLoggedErrors(type(failure))), 1)

    def test_a_trace_is_the_lookup_instead_of_the_value(self) -> None:
        """Also where there is no value: how it was looked for is an answer of its own."""
        self.server.values[b"one"] = b"hi there"
        for key, found in ((b"one", True), (b"none", False)):
            answer = self.ask(b"GET", b"/dht/" + key + b"?trace=1")
            self.assertEqual((answer.code, answer.headers["content-type"]), (200, "application/json"))
            self.assertEqual(answer.json, {"key": key.decode(), "found": found, "steps": []})
        self.server.failure = NoPeersReachable("nobody")
        self.assertEqual(self.ask(b"GET", b"/dht/one?trace=1").code, 503)

    def test_a_trace_is_asked_for_with_0_or_1(self) -> None:
        """Anything else is a bad request that says so."""
        for query in (b"trace=", b"trace=yes", b"trace=1&trace=1", b"trace=%ff"):
            answer = self.ask(b"GET", b"/dht/one?" + query)
            self.assertEqual(answer.code, 400, query)
            self.assertIn("trace must be 0 or 1", answer.json["error"])

    def test_a_client_that_leaves_cancels_its_lookup(self) -> None:
        """Nothing is logged as an error."""
        self.server.waiting = Deferred()
        channel, transport = self.connect()
        channel.dataReceived(b"GET /dht/k HTTP/1.1\r\nHost: x\r\n\r\n")
        waiting, self.server.waiting = self.server.waiting, None
        transport.loseConnection()
        self.assertTrue(waiting.called)


class Views(WebCase):
    """What a peer tells of itself."""

    def test_status_has_what_is_documented(self) -> None:
        """Field by field as in the description of the API."""
        self.server.stats.rpcs["ping", "ok"] = 3
        answer = self.ask(b"GET", b"/status").json
        spec = yaml.safe_load(self.ask(b"GET", b"/openapi.yaml").body)
        self.assertEqual(set(answer), set(spec["components"]["schemas"]["Status"]["required"]))
        self.assertEqual(answer["rpcs"], {"ping": {"ok": 3}})
        self.assertEqual((answer["state"], answer["joined"], answer["http_port"]), ("joined", True, 8080))

    def test_every_documented_path_exists(self) -> None:
        """And none answers with a 404 that is its own."""
        spec = yaml.safe_load(self.ask(b"GET", b"/openapi.yaml").body)
        for path, operations in spec["paths"].items():
            for method in set(operations) - {"parameters"}:
                code = self.ask(method.upper().encode(), path.replace("{key}", "k").encode(), b"", BEARER).code
                self.assertNotIn(code, {405, 500}, path)

    def statuses(self, method: str, path: str, *, body: bool) -> set[int]:
        """Ask for it in every way that the API tells apart; returns what came back, errors in JSON throughout."""
        plain = self.peer.settings
        codes = set()
        for key, query, sent, headers, changes in (
            ("k", "", b"{}", (BEARER,), {}),
            ("none", "", b"", (), {}),
            ("k", "?limit=x&trace=x", b"[", (BEARER,), {}),
            ("", "", b"{}", (BEARER,), {"state": "joining"}),
            ("x" * 1025, "", b"", (BEARER,), {"settings": replace(plain, token=None)}),
            ("k", "", b"x" * (LIMIT + 1) if body else b"", (BEARER,), {"state": "stopping"}),
            ("k", "", b"{}", (BEARER,), {"failure": NoPeersReachable("nobody")}),
            ("k", "", b"{}", (BEARER,), {"failure": QuotaExceeded("full")} if method in {"put", "post"} else {}),
            ("k", "", b"{}", (BEARER,), {"failure": Superseded("newer")} if method in {"put", "post"} else {}),
        ):
            self.peer.state, self.peer.settings, self.server.failure = "joined", plain, None
            self.server.values[b"k"] = b"v"
            for name, value in changes.items():
                setattr(self.server if name == "failure" else self.peer, name, value)
            self.serve()
            answer = self.ask(method.upper().encode(), (path.format(key=key) + query).encode(), sent, *headers)
            codes.add(answer.code)
            if answer.code >= 400 and method != "head":
                self.assertEqual(
                    (answer.headers["content-type"], list(answer.json)), ("application/json", ["error"])
                )
        return codes

    def test_every_documented_status_is_produced_and_no_other(self) -> None:
        """Operation by operation; what any request may meet is said once, at the head of the description."""
        spec = yaml.safe_load(self.ask(b"GET", b"/openapi.yaml").body)
        for path, operations in spec["paths"].items():
            for method, operation in operations.items():
                if method != "parameters":
                    documented = {int(code) for code in operation["responses"]}
                    produced = self.statuses(method, path, body="requestBody" in operation)
                    self.assertEqual(produced, documented, (method, path))
        for code in (400, 405, 413, 414, 431, 500, 503):
            self.assertIn(str(code), spec["info"]["description"])

    def test_neighbours_are_listed(self) -> None:
        """As documented."""
        self.assertEqual(
            self.ask(b"GET", b"/neighbours").json,
            [{"id": "01" * 20, "address": "127.0.60.2", "port": 8469, "distance": "0e" * 20, "last_seen": 1.235}],
        )

    def test_storage_is_paged_in_key_order(self) -> None:
        """Following `next` gives every record once."""
        for number in range(5):
            self.server.storage.put(Record(bytes([number]) * 20, b"v", 1, 9e9, 0.0))
        seen: list[str] = []
        after = b""
        while True:
            page = self.ask(b"GET", b"/storage?limit=2" + after).json
            self.assertEqual((page["total"], page["bytes"]), (5, self.server.storage.size))
            seen += [row["key"] for row in page["keys"]]
            if page["next"] is None:
                break
            after = b"&after=" + page["next"].encode()
        self.assertEqual(seen, [bytes([number]).hex() * 20 for number in range(5)])

    def test_a_long_page_leaves_the_loop_time_for_others(self) -> None:
        """It takes several turns, and is complete."""
        for number in range(1000):
            self.server.storage.put(Record(number.to_bytes(20, "big"), b"v", 1, 9e9, 0.0))
        channel, transport = self.connect()
        channel.dataReceived(b"GET /storage?limit=900 HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertEqual(transport.value(), b"")
        self.clock.pump([0, 0, 0, 0])
        page = Answer(transport.value()).json
        self.assertEqual([int(row["key"], 16) for row in page["keys"]], list(range(900)))
        self.assertEqual(int(page["next"], 16), 899)

    def test_bad_paging_is_a_bad_request(self) -> None:
        """Each names the argument."""
        for query in (b"limit=0", b"limit=10001", b"limit=-1", b"limit=x", b"limit=", b"limit=1&limit=2",
                      b"after=12", b"after=" + b"g" * 40, b"after=%ff", b"limit=%d9%a3"):  # fmt: skip
            answer = self.ask(b"GET", b"/storage?" + query)
            self.assertEqual(answer.code, 400, query)
            self.assertIn(query[:5].decode(), answer.json["error"])

    def test_healthz_follows_the_state(self) -> None:
        """A peer that is alone is healthy; one that joins or stops is not ready."""
        for state, code in (("joined", 200), ("alone", 200), ("joining", 503), ("stopping", 503)):
            self.peer.state = state
            self.assertEqual(self.ask(b"GET", b"/healthz").code, code)

    def test_a_wrong_method_is_told_the_right_ones(self) -> None:
        """405 with Allow."""
        answer = self.ask(b"DELETE", b"/dht/k")
        self.assertEqual((answer.code, answer.headers["allow"]), (405, "GET, HEAD, POST, PUT"))

    def test_unknown_paths_are_404_and_never_redirects(self) -> None:
        """A redirect would carry the client's Host header."""
        for path in (b"/nope", b"/dht", b"//evil.example/..", b"/%ff", b"/status/x", b"/st%61tus"):
            self.assertEqual(self.ask(b"GET", path).code, 404, path)


class ControlCase(WebCase):
    """Commands behind the token."""

    def test_without_the_token_nothing_happens(self) -> None:
        """401 for none, a wrong one, another scheme, and two."""
        for headers in ((), (b"Authorization: Bearer wrong",), (b"Authorization: Basic a-long-token",),
                        (BEARER, BEARER), (b"Authorization: \xff",)):  # fmt: skip
            answer = self.ask(b"POST", b"/control/shutdown", b"", *headers)
            self.assertEqual((answer.code, answer.headers["www-authenticate"]), (401, "Bearer"))
            self.assertEqual(self.ask(b"POST", b"/control/faults", b"{}", *headers).code, 401)
        self.assertEqual(self.peer.stops, [])

    def test_without_a_configured_token_there_is_no_control(self) -> None:
        """404, whatever token is shown."""
        self.peer.settings = replace(self.peer.settings, token=None)
        self.serve()
        for method, path in (
            (b"POST", b"/control/shutdown"),
            (b"POST", b"/control/faults"),
            (b"DELETE", b"/control/faults"),
        ):
            self.assertEqual(self.ask(method, path, b"", BEARER).code, 404)

    def test_shutdown_stops_the_peer(self) -> None:
        """And says so."""
        answer = self.ask(b"POST", b"/control/shutdown", b"", BEARER)
        self.assertEqual((answer.code, answer.json, self.peer.stops), (202, {"state": "stopping"}, [True]))

    def test_faults_are_set_and_cleared(self) -> None:
        """The answer is what is in force."""
        body = json.dumps({"loss": 0.5, "blocked": ["127.0.60.2:8469"]}).encode()
        answer = self.ask(b"POST", b"/control/faults", body, BEARER)
        self.assertEqual(answer.json, {"loss": 0.5, "delay": 0.0, "jitter": 0.0, "blocked": ["127.0.60.2:8469"]})
        self.assertTrue(self.server.shim.active)
        self.assertEqual(self.ask(b"DELETE", b"/control/faults", b"", BEARER).code, 200)
        self.assertFalse(self.server.shim.active)

    def test_bad_faults_are_refused_and_change_nothing(self) -> None:
        """400, with what is allowed."""
        for body in (b"", b"[]", b"{", b"\xff", b"[" * 9000, b'{"loss": 2}', b'{"loss": NaN}', b'{"lag": 1}',
                     b'{"delay": 1' + b"0" * 400 + b"}"):  # fmt: skip
            self.assertEqual(self.ask(b"POST", b"/control/faults", body, BEARER).code, 400, body)
        self.assertFalse(self.server.shim.active)
