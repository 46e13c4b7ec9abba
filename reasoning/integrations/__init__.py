"""Adapters for agent frameworks and evaluation harnesses. Each imports its framework, and only there."""
