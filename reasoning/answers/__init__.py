"""Answers: finding them in text, and telling which are the same."""
