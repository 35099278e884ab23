"""Benchmarks of the field: read their layouts, predict, score by vos-benchmark, report."""
