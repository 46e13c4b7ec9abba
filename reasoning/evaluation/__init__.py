"""Evaluation: strategies over data sets."""
