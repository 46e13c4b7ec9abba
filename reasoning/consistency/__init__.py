"""Strategies that vote over samples."""
