"""Processes that are killed, replaced or told to leave: nothing is lost, doubled or reordered."""
