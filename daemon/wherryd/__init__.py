"""Wherry's daemon: takes requests, keeps them, and brings them to their stores in order."""
