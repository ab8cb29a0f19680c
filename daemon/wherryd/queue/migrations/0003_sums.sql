-- Further checksums that a reference's server gave.
ALTER TABLE entries ADD COLUMN sums TEXT;
