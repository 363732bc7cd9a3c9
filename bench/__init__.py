"""Measures trapline beside plain C and beside its peers: ``python -m bench``; see docs/benchmarks.md."""
