"""Benchmarks: each is measured beside its limit in the same run, and told as a ratio (see bench/README.md)."""
