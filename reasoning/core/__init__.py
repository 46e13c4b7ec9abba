"""Core types: paths, messages, sampling, usage, budgets, votes, results and errors. Imports nothing above."""
