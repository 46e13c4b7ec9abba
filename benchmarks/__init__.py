"""Benchmarks of branchwise: see README.md in this folder."""
