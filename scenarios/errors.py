"""Every error this package raises on purpose; the message tells the user what to do."""


class ScenariosError(Exception):
    """Base of every error raised by this package.  `fab` prints it as one line and exits with `exit_code`."""

    #: 2 = could not run (the meaning of 0, 1 and 2 is the same everywhere: valid, invalid, unknown)
    exit_code = 2


class UsageError(ScenariosError):
    """An option or a combination of options is wrong; nothing was touched."""


class TestbedError(ScenariosError):
    """The testbed could not be brought into, or is not in, the wanted state."""


class NoTestbed(TestbedError):
    """There is no current testbed."""


class TestbedBusy(TestbedError):
    """Another run holds the testbed."""


class MissingCapability(ScenariosError):
    """The scenario needs a fault that this provider cannot make."""


class HistoryError(ScenariosError):
    """A stored history cannot be read."""


class PhaseFailed(ScenariosError):
    """A phase of a run could not do its work; the run's evidence is kept and its verdict is unknown."""
