"""Chaos: a load with known message ids, a seeded plan of faults, and a checker that compares three records.

plan → stage (processes, links, servers, providers) ← callers
ledger (what callers saw) + arrivals (what the sockets saw) + history (store and stream) → checker → report
"""
