"""Deterministic simulation: the real commit and queue modules under virtual time and chosen faults."""
