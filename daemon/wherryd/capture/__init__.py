"""Capture, the daemon's part: the spool's upkeep. The client captures."""
