-- Requests that put parts into a draft, and that finish one.
ALTER TABLE requests ADD COLUMN kind TEXT NOT NULL DEFAULT 'log' CHECK (kind IN ('log', 'upsert', 'finish'));
ALTER TABLE requests ADD COLUMN draft TEXT NOT NULL DEFAULT '';
ALTER TABLE requests ADD COLUMN newest INTEGER NOT NULL DEFAULT 0;
ALTER TABLE requests ADD COLUMN sealed BLOB;
CREATE INDEX requests_by_draft ON requests (draft) WHERE kind <> 'log' AND state NOT IN ('done', 'failed', 'cancelled');
CREATE TABLE gathered (
    row  INTEGER NOT NULL,
    path TEXT NOT NULL,
    part INTEGER NOT NULL,
    line BLOB NOT NULL,
    PRIMARY KEY (row, path, part)
) STRICT, WITHOUT ROWID;
