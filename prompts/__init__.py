"""Tasks: rendering of prompts, answer formats, step boundaries and thinking."""
