"""Log events as JSON lines; that twist and twistd write them is in `test_tac`."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import Logger, LogLevel
from twisted.trial.unittest import SynchronousTestCase

from kademlia.logs import json_observer


class Unprintable(Exception):
    """An error whose text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


class JSONLines(SynchronousTestCase):
    """One event, one line, one object."""

    def setUp(self) -> None:
        self.stream = StringIO()
        observer: Any = json_observer(self.stream)
        self.log = Logger("kademlia.test", observer=observer)

    def line(self) -> Any:
        """Return the object of the only line."""
        (line,) = self.stream.getvalue().splitlines()
        return json.loads(line)

    def test_an_event_is_its_time_level_namespace_and_message(self) -> None:
        """The message is formatted; lines, quotes and what is no ASCII stay within the line."""
        self.log.error("one\n{what} \u2028 é", what='"two"')
        line = self.line()
        self.assertTrue(line.pop("time").endswith("Z"))
        self.assertEqual(line, {"level": "error", "namespace": "kademlia.test", "message": 'one\n"two" \u2028 é'})

    def test_a_failure_brings_its_traceback(self) -> None:
        """Within the same line."""
        try:
            raise ZeroDivisionError("nothing")
        except ZeroDivisionError:
            self.log.failure("it broke")
        line = self.line()
        self.assertEqual((line["level"], line["message"]), (LogLevel.critical.name, "it broke"))
        self.assertIn("ZeroDivisionError: nothing", line["traceback"])

    def test_an_event_that_cannot_be_formatted_is_a_line_nevertheless(self) -> None:
        """Logging must not fail for what is logged."""
        self.log.info("{missing} {0}")
        self.assertIn("missing", self.line()["message"])

    @given(st.one_of(st.text(), st.binary(), st.sampled_from(("\ud800", "\u2028", "{", "{x}", "%s", "\x1b[2J"))))
    def test_whatever_is_logged_is_one_line_of_printable_ascii(self, content: object) -> None:
        """As the argument, as the format, and in the traceback of a failure."""
        self.setUp()
        self.log.info("{content} {content!r}", content=content)
        self.log.info(str(content))
        for error in (ValueError, KeyError, Unprintable):
            try:
                raise error(content)
            except Exception:
                self.log.failure("{content} failed", content=content)
        text = self.stream.getvalue()
        self.assertTrue(text.isascii())
        lines = text.split("\n")
        self.assertEqual((len(lines), lines.pop()), (6, ""))
        for line in lines:
            self.assertTrue(line.isprintable())
            self.assertLessEqual({"time", "level", "namespace", "message"}, set(json.loads(line)))
        self.assertIn("Unprintable", json.loads(lines[-1])["traceback"])

    def test_an_event_that_makes_no_sense_is_a_line_that_says_so(self) -> None:
        """What other code of the process logs is not ours to choose."""
        for event in (
            {"log_time": float("nan")},
            {"log_time": 1e300},
            {"log_time": None},
            {"log_level": "loud"},
            {"log_namespace": b"bytes"},
            {"log_failure": "no failure"},
            {"log_format": Unprintable(), "log_namespace": Unprintable()},
        ):
            self.setUp()
            json_observer(self.stream)(event)
            line = self.line()
            self.assertEqual((line["level"], line["namespace"]), ("error", "kademlia.logs"))
            self.assertIn(next(iter(event)), line["message"])

    def test_an_event_without_level_and_namespace_is_one_of_twisted_s_old_log(self) -> None:
        """As `twisted.python.log.msg` makes them."""
        json_observer(self.stream)({"log_time": 0.0, "log_format": "old"})
        self.assertEqual(
            self.line(),
            {"time": "1970-01-01T00:00:00.000000Z", "level": "info", "namespace": "-", "message": "old"},
        )
