"""Systems under test. Each is a worker process that answers every JSON line with one JSON line."""
