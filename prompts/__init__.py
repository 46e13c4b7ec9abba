"""Tasks: how a question is put to a model, how its answers are written, where its steps end."""
