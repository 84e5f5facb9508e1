"""Turn expected errors of a `fab` task into one line on stderr and an exit status."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from scenarios.errors import ScenariosError

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")


def reports_errors(body: Callable[P, R]) -> Callable[P, R]:
    """Decorate the body of a task: a `ScenariosError` becomes one line and its `exit_code`, Ctrl-C becomes 130.

    Goes under `@task`, so that invoke still reads the signature of the body it wraps.  Any other exception is a
    defect of ours and keeps its traceback.
    """

    @functools.wraps(body)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return body(*args, **kwargs)
        except ScenariosError as error:
            message = " ".join(str(error).split()) or type(error).__name__
            print(f"fab: {message}", file=sys.stderr)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            print("fab: interrupted", file=sys.stderr)
            sys.exit(130)

    return wrapper
