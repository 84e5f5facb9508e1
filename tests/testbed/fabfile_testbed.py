"""The testbed's tasks alone, as the project's fabfile offers them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from invoke.collection import Collection

from scenarios import fabric_ext
from scenarios.testbed.tasks import namespace as testbed

fabric_ext.install()
namespace = Collection(testbed=testbed)
