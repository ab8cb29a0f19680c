"""What docs/promises.md says, shown from outside: real programs, a real daemon, real stores, real kills."""
