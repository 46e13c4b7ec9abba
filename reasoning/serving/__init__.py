"""Chat completions answered by strategies, for a server of our own and inside others."""
