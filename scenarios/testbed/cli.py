"""Turn expected errors of a `fab` task into one line on stderr and an exit status."""

from __future__ import annotations

import functools
import sys
import traceback
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from scenarios.errors import ScenariosError

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")


def reports_errors(body: Callable[P, R]) -> Callable[P, R]:
    """Decorate the body of a task: a `ScenariosError` becomes one line and its `exit_code`, Ctrl-C becomes 130.

    What the machine refuses (a full disk, no permission) is one line, too.  Any other exception is a defect of
    ours and keeps its traceback, but never exits with 1, which says that data was lost.

    Goes under `@task`, so that invoke still reads the signature of the body it wraps.
    """

    @functools.wraps(body)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return body(*args, **kwargs)
        except ScenariosError as error:
            message = " ".join(str(error).split()) or type(error).__name__
            print(f"fab: {message}", file=sys.stderr)
            sys.exit(error.exit_code)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            print(f"fab: {where}{error.strerror or error}", file=sys.stderr)
            sys.exit(2)
        except Exception:
            traceback.print_exc()
            sys.exit(2)
        except KeyboardInterrupt:
            print("fab: interrupted", file=sys.stderr)
            sys.exit(130)

    return wrapper
