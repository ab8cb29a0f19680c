"""Prepare: the digests that are missing, and the manifest."""
