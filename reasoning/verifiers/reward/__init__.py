"""Reward models: classifiers that score a path or each of its steps. Needs the extra `engine`."""
