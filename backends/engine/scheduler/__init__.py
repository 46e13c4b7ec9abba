"""Scheduler: requests in, one packed step after another, events out."""
