"""A Google Cloud Storage bucket as a store."""
