"""Two repairs to how `fab` (invoke 2.2) reads its command line, made when the fabfile is loaded.

1. An option called k can only be given as `-k`; here `--k` works too.
2. A command line that cannot be parsed exits with 1, which here means "the data did not survive"; it becomes 2.
"""

from __future__ import annotations

import difflib
from typing import Any

import invoke.collection
from invoke.exceptions import Exit, ParseError
from invoke.parser.context import ParserContext, to_flag
from invoke.parser.parser import ParseMachine


class UsageExit(Exit, ParseError):
    """A command line that cannot be parsed: printed as every ParseError is, with an exit status of its own."""

    def __init__(self, text: str) -> None:
        Exit.__init__(self, None, 2)
        self.text = text

    def __str__(self) -> str:
        return f"fab: {self.text}"


class _Context(ParserContext):
    def add_arg(self, *args: Any, **kwargs: Any) -> None:
        super().add_arg(*args, **kwargs)
        # Only k: invoke gives many options a short form, and those are not meant.
        if "-k" in self.flags and "--k" not in self.flags:
            self.flags.alias("--k", to=to_flag(self.args["k"].names[0]))  # type: ignore[no-untyped-call]


def _error(machine: Any, message: str) -> None:
    context = machine.context
    word = message.removeprefix("No idea what '").partition("'")[0]
    if not message.startswith("No idea what"):
        raise UsageExit(message)
    if word.startswith("-") and context is not None and context.name:
        options = sorted(flag for flag in context.flags if flag.startswith("--"))
        near = difflib.get_close_matches(word, options, n=1)
        hint = f"did you mean {near[0]}?" if near else f"`fab --help {context.name}` lists its options"
        raise UsageExit(f"{context.name} has no option {word}; {hint}")
    near = difflib.get_close_matches(word, list(machine.contexts), n=1)
    hint = f"did you mean {near[0]}?" if near else "`fab --list` lists all tasks"
    raise UsageExit(f"no task or option {word}; {hint}")


def install() -> None:
    """Make the repairs; harmless when made already."""
    invoke.collection.ParserContext = _Context  # type: ignore[attr-defined]
    ParseMachine.error = _error  # type: ignore[method-assign,assignment]
