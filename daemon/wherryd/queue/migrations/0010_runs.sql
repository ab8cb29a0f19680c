-- What runs have done that no version's record tells, and the records of runs that are on their way.
ALTER TABLE links ADD COLUMN project TEXT NOT NULL DEFAULT '';
CREATE TABLE run_notes (
    number  INTEGER PRIMARY KEY AUTOINCREMENT,
    address TEXT NOT NULL,
    place   TEXT NOT NULL,
    project TEXT NOT NULL,
    run_id  TEXT NOT NULL,
    run     TEXT NOT NULL,
    kind    TEXT NOT NULL CHECK (kind IN ('facts', 'used', 'logged', 'draft')),
    value   TEXT NOT NULL,
    held    INTEGER NOT NULL,
    is_end  INTEGER NOT NULL,
    noted   REAL NOT NULL,
    record  INTEGER,
    UNIQUE (address, place, project, run_id, kind, value)
) STRICT;
CREATE INDEX run_notes_open ON run_notes (address, place, number) WHERE record IS NULL;
CREATE INDEX run_notes_by_run ON run_notes (run_id) WHERE record IS NULL;
CREATE INDEX run_notes_by_time ON run_notes (noted);
CREATE TABLE run_records (
    number  INTEGER PRIMARY KEY AUTOINCREMENT,
    address TEXT NOT NULL,
    place   TEXT NOT NULL,
    run_id  TEXT NOT NULL,
    body    BLOB NOT NULL
) STRICT;
