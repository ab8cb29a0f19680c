-- Big files go in parts: what each part has to be, which uploads are under way, and which of their parts are there.
CREATE TABLE part_sums (
    row        INTEGER NOT NULL,
    digest     TEXT NOT NULL,
    part_bytes INTEGER NOT NULL,
    sums       BLOB NOT NULL,
    PRIMARY KEY (row, digest)
) STRICT, WITHOUT ROWID;
CREATE TABLE uploads (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,
    address    TEXT NOT NULL,
    store_id   TEXT NOT NULL,
    project    TEXT NOT NULL,
    digest     TEXT NOT NULL,
    name       TEXT NOT NULL,
    part_bytes INTEGER NOT NULL,
    row        INTEGER NOT NULL,
    UNIQUE (address, project, digest)
) STRICT;
CREATE TABLE sent_parts (
    upload INTEGER NOT NULL,
    number INTEGER NOT NULL,
    etag   TEXT NOT NULL,
    PRIMARY KEY (upload, number)
) STRICT, WITHOUT ROWID;
