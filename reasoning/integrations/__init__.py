"""Adapters: strategies as models inside evaluation harnesses. Each imports its harness, and only there."""
