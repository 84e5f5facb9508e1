"""What `fab` finds: the testbed, the scenarios, their results, and the demo."""

from invoke.collection import Collection

from scenarios import demo, fabric_ext, results_tasks, tasks
from scenarios.testbed.tasks import namespace as testbed

fabric_ext.install()

namespace = Collection(demo.demo, scenario=tasks.namespace, results=results_tasks.namespace, testbed=testbed)
