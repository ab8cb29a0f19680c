-- References to servers: what was asked for, until it is known what it stands for.
CREATE TABLE lookups (
    row         INTEGER NOT NULL,
    number      INTEGER NOT NULL,
    uri         TEXT NOT NULL,
    server      TEXT NOT NULL,
    name        TEXT NOT NULL,
    max_objects INTEGER NOT NULL,
    is_prefix   INTEGER NOT NULL DEFAULT 0,
    after       TEXT NOT NULL DEFAULT '',
    found       INTEGER NOT NULL DEFAULT 0,
    done        INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (row, number)
) STRICT, WITHOUT ROWID;
ALTER TABLE requests ADD COLUMN lookups INTEGER NOT NULL DEFAULT 0;
ALTER TABLE entries ADD COLUMN lookup INTEGER;
