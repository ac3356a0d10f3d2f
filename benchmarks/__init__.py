"""Benchmarks: programs that measure segacc; `python -m benchmarks.NAME --help` explains each."""
