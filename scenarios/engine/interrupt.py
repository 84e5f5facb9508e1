"""Ctrl-C, SIGTERM and SIGHUP end a run in an orderly way: what is going on is cancelled, healing is not."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType

T = TypeVar("T")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):
    """The run was asked to end."""


class Interrupts:
    """Routes signals of this process while it is entered.

    The first signal, or `stop`, cancels what `run` awaits, and everything that is started with `run` later.
    Coroutines awaited directly (healing, reports) are not touched; the third signal gives up on them, after
    `leave` has left the terminal as it was.
    """

    def __init__(self, say: Callable[[str], None], leave: Callable[[], None]) -> None:
        self._say = say
        self._leave = leave
        self._task: asyncio.Task[object] | None = None
        self._before: dict[signal.Signals, Any] = {}
        self.count = 0
        self.reason = ""

    def __enter__(self) -> Interrupts:
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            self._before[number] = signal.getsignal(number)
            loop.add_signal_handler(number, self._on_signal, number)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
            # The loop would leave the system's default behind, and not what the caller had set up.
            signal.signal(number, self._before[number])

    def _on_signal(self, number: signal.Signals) -> None:
        self.count += 1
        if self.count == 1:
            reason = f"interrupted by {number.name}"
            self._say(f"{reason}: healing the network, then writing the report")
            self.stop(reason)
        elif self.count == 2:
            self._say("still healing; once more gives up, and then `fab testbed.heal` brings every peer back")
        else:
            self._say("given up: run `fab testbed.heal` to bring every peer back")
            self._leave()
            os._exit(2)

    def stop(self, reason: str) -> None:
        """End what `run` awaits, and all that it is given later; the first reason stays."""
        self.reason = self.reason or reason
        if self._task is not None:
            self._task.cancel()

    async def run(self, work: Coroutine[object, object, T]) -> T:
        """Await `work`; raises `Interrupted` when a signal (or `stop`) came before or comes meanwhile."""
        if self.reason:
            work.close()
            raise Interrupted(self.reason)
        task = asyncio.ensure_future(work)
        self._task = task
        try:
            return await task
        except asyncio.CancelledError:
            if self.reason:
                raise Interrupted(self.reason) from None
            raise
        finally:
            self._task = None
