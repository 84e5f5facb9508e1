"""What a run asks the network beside its workload: who holds what, and whether everything can be read back.

Probes write what they saw to the history; checks judge the history and never ask the network themselves.
"""
