"""Sampling with keyed noise."""
