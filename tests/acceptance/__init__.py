"""What the issue promises, shown from outside: real programs, a real daemon, real stores, real kills."""
