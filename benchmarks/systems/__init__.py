"""What is measured: each system is a process of its own that answers one JSON line with one."""
