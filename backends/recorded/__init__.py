"""Backend that replays recorded branches and passes other requests to another backend."""
