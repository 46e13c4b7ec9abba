"""Prompts and texts as tokens: chat templates, special tokens, detokenization. Shared by the engine and vLLM."""
