"""Sandbox for untrusted Python programs."""
