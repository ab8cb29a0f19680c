-- Small files travel together: which pack an entry lies in, which packs a request makes, and where known bytes lie.
ALTER TABLE entries ADD COLUMN pack TEXT;
ALTER TABLE entries ADD COLUMN pack_offset INTEGER;
CREATE TABLE packs (
    row  INTEGER NOT NULL,
    pack TEXT NOT NULL,
    size INTEGER NOT NULL,
    PRIMARY KEY (row, pack)
) STRICT, WITHOUT ROWID;
ALTER TABLE blobs ADD COLUMN pack TEXT;
ALTER TABLE blobs ADD COLUMN pack_offset INTEGER;
