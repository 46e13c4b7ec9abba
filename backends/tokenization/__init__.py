"""Prompts and text as tokens: chat templates, special tokens, detokenization. The engine and vLLM use all of it."""
