"""Core types shared by every package: paths, messages, sampling, budgets, usage, votes, trees, results and errors.

Nothing here imports branchwise outside `branchwise.core`.
"""
