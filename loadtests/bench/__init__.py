"""Benchmarks: ratios between neighbours of one run, medians of alternating rounds. `python -m loadtests.bench`."""
