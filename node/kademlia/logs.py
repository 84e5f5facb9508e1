"""What the peer's log looks like: the level configured, as text or as one JSON object per line."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
    globalLogBeginner,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twisted.logger import ILogObserver, LogEvent


def json_line(event: LogEvent) -> str:
    """Return an event as a line of JSON: time (UTC), level, namespace, message, and the traceback of a failure.

    One without a sensible time, level, namespace or failure, which other code may well log, is a line, too.
    """
    try:
        return _line(event)
    except Exception as error:  # logging must not fail for what is logged
        names = ", ".join(map(ascii, event))
        return json.dumps({
            "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "level": "error",
            "namespace": __name__,
            "message": f"an event with {names} cannot be shown: {type(error).__name__}",
        }) + "\n"  # fmt: skip


def _line(event: LogEvent) -> str:
    when = datetime.fromtimestamp(event.get("log_time", 0.0), UTC)
    level = event.get("log_level") or LogLevel.info
    line = {
        "time": when.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "level": level.name,
        "namespace": event.get("log_namespace") or "-",
        "message": formatEvent(event),
    }
    failure = event.get("log_failure")
    if failure is not None:
        line["traceback"] = failure.getTraceback()
    return json.dumps(line) + "\n"


def json_observer(stream: Any) -> FileLogObserver:
    """Return an observer that writes JSON lines: what `twist` takes as its `fileLogObserverFactory`."""
    return FileLogObserver(stream, json_line)


def shape_log(level: str, form: str) -> None:
    """Make the log that is about to begin keep what is of that level or above, in that form ("text" or "json").

    twist, twistd and .tac files choose the file, and begin to log after they have loaded the peer; whatever they
    chose is shaped here.
    """
    begin: Any = globalLogBeginner.beginLoggingTo
    predicate: Any = LogLevelFilterPredicate(LogLevel.levelWithName(level))

    def shaped(observers: Iterable[ILogObserver], **options: Any) -> None:
        limited: list[Any] = []
        for observer in observers:
            if form == "json" and isinstance(observer, FileLogObserver):
                observer.formatEvent = json_line
            # "debug" is everything: what Twisted logs of itself, too
            limited.append(observer if level == "debug" else FilteringLogObserver(observer, [predicate]))
        begin(limited, **options)

    beginner: Any = globalLogBeginner
    beginner.beginLoggingTo = shaped
