-- What one store says of versions and runs. All of it is in the store as well: a damaged index, or one of another form,
-- is made anew.

CREATE TABLE versions (
    project TEXT NOT NULL,
    name    TEXT NOT NULL,
    version INTEGER NOT NULL,
    stamp   TEXT NOT NULL,                      -- of the object that was read: another one has other bytes
    deleted INTEGER NOT NULL,
    request TEXT NOT NULL,
    type    TEXT NOT NULL,                      -- '' where it is deleted; so are the following
    created TEXT NOT NULL,
    run_id  TEXT NOT NULL,
    run     TEXT NOT NULL,                      -- JSON object, model.RunInfo
    PRIMARY KEY (project, name, version)
) STRICT, WITHOUT ROWID;
CREATE INDEX versions_by_run ON versions (project, run_id, created);
CREATE INDEX versions_by_request ON versions (request);

CREATE TABLE inputs (
    project TEXT NOT NULL,
    name    TEXT NOT NULL,
    version INTEGER NOT NULL,
    input   TEXT NOT NULL,                      -- project/name:v3
    PRIMARY KEY (project, name, version, input)
) STRICT, WITHOUT ROWID;
CREATE INDEX inputs_by_input ON inputs (input);

CREATE TABLE run_records (
    key     TEXT PRIMARY KEY,
    place   TEXT NOT NULL,                      -- the project below which it lies
    stamp   TEXT NOT NULL,
    project TEXT NOT NULL,                      -- the run's; '' where the record can't be read
    run_id  TEXT NOT NULL,
    body    BLOB NOT NULL                       -- JSON, model.RunRecord
) STRICT, WITHOUT ROWID;
CREATE INDEX run_records_by_run ON run_records (project, run_id);

CREATE TABLE run_links (
    kind    TEXT NOT NULL,                      -- model.NoteKind
    value   TEXT NOT NULL,                      -- project/name:v3, or a draft's <hex>
    project TEXT NOT NULL,                      -- the run's
    run_id  TEXT NOT NULL,
    key     TEXT NOT NULL,                      -- of the record that says it
    PRIMARY KEY (kind, value, project, run_id, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX run_links_by_run ON run_links (project, run_id, kind);
CREATE INDEX run_links_by_key ON run_links (key);
