"""Answers: extraction from a branch's text, canonical forms, and equivalence."""
