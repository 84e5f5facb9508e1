"""Log events as JSON lines; that twist and twistd write them is in `test_tac`."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

from twisted.logger import Logger, LogLevel
from twisted.trial.unittest import SynchronousTestCase

from kademlia.logs import json_observer


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

    def test_an_event_without_level_and_namespace_is_one_of_twisted_s_old_log(self) -> None:
        """As `twisted.python.log.msg` makes them."""
        json_observer(self.stream)({"log_time": 0.0, "log_format": "old"})
        self.assertEqual(
            self.line(),
            {"time": "1970-01-01T00:00:00.000000Z", "level": "info", "namespace": "-", "message": "old"},
        )
