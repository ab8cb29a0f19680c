"""Dumb object storage: keys and bytes, and nothing of what Wherry keeps in them."""
