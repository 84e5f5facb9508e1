"""Ansible callback: tell `fab` what a deployment is doing, one JSON object a line, on a pipe it hands over."""

from __future__ import annotations

import json
import os
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: testbed_events
type: notification
short_description: Tell fab what a deployment is doing
description: Does nothing unless TESTBED_EVENTS_FD names an open file descriptor.
requirements: [enabled by ANSIBLE_CALLBACKS_ENABLED]
"""


class CallbackModule(CallbackBase):
    """Writes the start of each task and each failure."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "testbed_events"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        descriptor = os.environ.get("TESTBED_EVENTS_FD", "")
        self._pipe = int(descriptor) if descriptor.isdigit() else None

    def _tell(self, **event: Any) -> None:
        if self._pipe is None:
            return
        try:
            os.write(self._pipe, json.dumps(event).encode() + b"\n")
        except OSError:
            self._pipe = None  # fab has gone; the deployment goes on

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """Tell which task begins."""
        self._tell(event="task", name=task.get_name().removeprefix("node : "))

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Tell what failed, and where."""
        if not ignore_errors:
            message = result.result.get("msg") or result.result.get("module_stderr") or "no message"
            self._tell(event="failed", host=result.host.get_name(), message=str(message))

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Tell which host cannot be reached."""
        message = str(result.result.get("msg", "unreachable"))
        self._tell(event="failed", host=result.host.get_name(), message=message)
