"""Strategies that choose among paths by a value: search over reasoning."""
