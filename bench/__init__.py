"""Benchmarks of the system on this machine, reported as ratios with spreads: `make bench`, or each alone."""
