"""The scenarios that ship."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scenarios.library.churn import CHURN
from scenarios.library.replication import REPLICATION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scenarios.scenario import Scenario

#: every scenario by name
SCENARIOS: Mapping[str, Scenario] = {scenario.name: scenario for scenario in (CHURN, REPLICATION)}
