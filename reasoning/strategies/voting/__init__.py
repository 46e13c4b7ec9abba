"""Strategies that vote over sampled paths."""
