"""Read: what is in a store, for those who use artifacts."""
