"""Backend that replays recorded branches and asks another backend for the rest."""
