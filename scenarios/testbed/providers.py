"""Which providers there are, and the current one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scenarios.errors import NoTestbed, TestbedError
from scenarios.testbed.local import LocalProvider
from scenarios.testbed.settings import declaration
from scenarios.testbed.state import StateFolder
from scenarios.testbed.topology import VAGRANT_PROVIDERS

if TYPE_CHECKING:
    from scenarios.testbed.model import Provider


def open_provider(folder: StateFolder, name: str) -> LocalProvider:
    """Return the provider of that name; raises `TestbedError` for one that `fab` cannot drive yet."""
    if name == "local":
        return LocalProvider(folder)
    if name in VAGRANT_PROVIDERS:
        raise TestbedError(
            f"provider {name} is not available through fab yet; run `vagrant up --provider={name}` and "
            "`ansible-playbook deploy.yml`"
        )
    raise TestbedError(
        f"provider {name} is not available through fab yet; run "
        "`ansible-playbook -i inventory/fleet.yml deploy.yml`"
    )


def current_folder() -> StateFolder:
    """Return the state folder of the current testbed; raises `NoTestbed`."""
    folder = StateFolder.default()
    # A testbed made by ansible-playbook alone has no record: it is what is declared.
    if folder.read() is None and not folder.supervisor_conf.exists():
        raise NoTestbed(f"there is no testbed in {folder.root}; run `fab testbed.up`")
    return folder


def current() -> Provider:
    """Return the provider of the current testbed, ready for faults.

    Raises `NoTestbed` where there is none, `TestbedError` where it was not deployed to its end.
    """
    folder = current_folder()
    record = folder.read()
    if record is not None and not record.complete:
        raise TestbedError(
            "the last deployment did not end well; run `fab testbed.up` again, or `fab testbed.down`"
        )
    return open_provider(folder, declaration(folder).provider)
