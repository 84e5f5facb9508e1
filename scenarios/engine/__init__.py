"""Runs a scenario: preflight, preload, workload under faults, heal, settle, checks, report."""
