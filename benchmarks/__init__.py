"""Benchmarks of speed; README.md in this folder describes them."""
