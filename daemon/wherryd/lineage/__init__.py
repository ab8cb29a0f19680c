"""What was made of what: an index of a store's versions and runs, made from the store whenever asked."""
