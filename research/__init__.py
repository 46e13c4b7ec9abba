"""Scripts that produce docs/results.md. Benchmarks of speed are in benchmarks/."""
