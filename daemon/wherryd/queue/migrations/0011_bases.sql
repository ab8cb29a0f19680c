-- Requests whose entries are changes to another version.
ALTER TABLE requests ADD COLUMN base TEXT;
CREATE TABLE removed (
    row  INTEGER NOT NULL,
    path TEXT NOT NULL,
    PRIMARY KEY (row, path)
) STRICT, WITHOUT ROWID;
