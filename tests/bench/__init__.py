"""Benchmarks: each figure beside its peer's, measured in the same run.  make bench-NAME"""
