"""What the current testbed is: the declaration with the current record over it, and changes to that record."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import yaml

from scenarios.errors import UsageError
from scenarios.testbed.state import ROOT, TOPOLOGY_FILE, Current
from scenarios.testbed.topology import load

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scenarios.testbed.state import StateFolder
    from scenarios.testbed.topology import Declaration

ROLE_VARIABLES = ROOT / "provisioning" / "roles" / "node" / "meta" / "argument_specs.yml"
#: role variables that the declaration has a setting for
DECLARED = {"kademlia_ksize": "ksize", "kademlia_alpha": "alpha", "kademlia_profile": "profile"}


def declaration(folder: StateFolder, current: Current | None = None) -> Declaration:
    """Return the current testbed in full; raises `UsageError` where a setting is impossible."""
    return load(TOPOLOGY_FILE, (current or folder.read() or Current()).settings)


def role_variables() -> set[str]:
    """Return the names of the role's variables."""
    document: Any = yaml.safe_load(ROLE_VARIABLES.read_text(encoding="utf-8"))
    return set(document["argument_specs"]["main"]["options"])


def changed_settings(folder: StateFolder, variables: Mapping[str, object]) -> Current:
    """Return the current record with role variables changed; None takes a variable back to what is declared."""
    unknown = sorted(set(variables) - role_variables())
    if unknown:
        raise UsageError(f"the role `node` has no variable {unknown[0]!r}")
    current = folder.read() or Current()
    settings, others = dict(current.settings), dict(current.variables)
    for name, value in variables.items():
        target, key = (settings, DECLARED[name]) if name in DECLARED else (others, name)
        if value is None:
            target.pop(key, None)
        else:
            target[key] = value
    changed = replace(current, settings=settings, variables=others)
    declaration(folder, changed)
    return changed
