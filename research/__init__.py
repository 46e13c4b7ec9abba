"""Scripts behind docs/results.md. They are not benchmarks of speed."""
