"""The durable queue: what the daemon has promised, in one SQLite database."""
