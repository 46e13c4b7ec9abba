"""The driver: runs a strategy over a backend, and keeps the account."""
