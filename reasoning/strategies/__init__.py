"""Strategies: the protocol, the actions and events it exchanges with the driver, and shared bases."""
