"""Load on the network: keys and values that can be recognised, clients, and an open loop that keeps its rate."""

from scenarios.workload.client import Client, Tally
from scenarios.workload.keys import KeyChooser, Ledger, Values, parse_popularity
from scenarios.workload.openloop import Mix, preload, run_open_loop

__all__ = [
    "Client",
    "KeyChooser",
    "Ledger",
    "Mix",
    "Tally",
    "Values",
    "parse_popularity",
    "preload",
    "run_open_loop",
]
