-- The first form.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('last_place', '0'), ('starts', '0');

CREATE TABLE stores (
    address  TEXT PRIMARY KEY,
    store_id TEXT NOT NULL DEFAULT '',
    probed   TEXT NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID;

CREATE TABLE artifacts (
    address         TEXT NOT NULL,
    store_id        TEXT NOT NULL,
    project         TEXT NOT NULL,
    name            TEXT NOT NULL,
    type            TEXT,
    highest         INTEGER NOT NULL DEFAULT -1,
    highest_request TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (address, store_id, project, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE stopped_lanes (
    address TEXT NOT NULL,
    project TEXT NOT NULL,
    name    TEXT NOT NULL,
    reason  TEXT NOT NULL,
    PRIMARY KEY (address, project, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE requests (
    row         INTEGER PRIMARY KEY,
    id          TEXT NOT NULL UNIQUE,
    body        BLOB NOT NULL,
    place       INTEGER UNIQUE,
    state       TEXT NOT NULL CHECK (state IN
        ('held', 'accepted', 'prepared', 'uploaded', 'sending', 'settled', 'done', 'failed', 'cancelled')),
    address     TEXT NOT NULL,
    project     TEXT NOT NULL,
    name        TEXT NOT NULL,
    type        TEXT NOT NULL,
    description TEXT,
    metadata    TEXT NOT NULL,
    aliases     TEXT NOT NULL,
    tags        TEXT NOT NULL,
    inputs      TEXT NOT NULL,
    run         TEXT NOT NULL,
    run_id      TEXT NOT NULL,
    client      TEXT NOT NULL,
    folder      TEXT NOT NULL,
    synced      INTEGER NOT NULL,
    logged      REAL NOT NULL,
    floor       INTEGER NOT NULL DEFAULT -1,
    floor_store TEXT NOT NULL DEFAULT '',
    accepted    REAL NOT NULL,
    entries     INTEGER NOT NULL,
    size        INTEGER NOT NULL,

    manifest    TEXT,
    digest      TEXT,
    content     TEXT,

    number      INTEGER,
    record      BLOB,

    version     INTEGER,

    error       TEXT NOT NULL DEFAULT '',
    reason      TEXT NOT NULL DEFAULT '',
    next_try    REAL,
    acknowledged INTEGER NOT NULL DEFAULT 0,
    ended       REAL,
    freed       INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX requests_by_state ON requests (state, place, row, address);
CREATE INDEX requests_by_run ON requests (run_id);
CREATE INDEX requests_by_end ON requests (ended) WHERE ended IS NOT NULL;
CREATE INDEX requests_by_lane ON requests (address, project, name, place)
    WHERE state NOT IN ('done', 'failed', 'cancelled');
CREATE INDEX requests_by_type ON requests (address, project, name, type)
    WHERE state NOT IN ('done', 'failed', 'cancelled');
CREATE INDEX requests_unfreed ON requests (row) WHERE freed = 0 AND state IN ('done', 'cancelled');
CREATE INDEX requests_unsynced ON requests (row) WHERE synced = 0 AND state NOT IN ('done', 'cancelled');

CREATE TABLE counts (
    state    TEXT PRIMARY KEY,
    requests INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO counts VALUES
    ('held', 0), ('accepted', 0), ('prepared', 0), ('uploaded', 0), ('sending', 0), ('settled', 0),
    ('done', 0), ('failed', 0), ('cancelled', 0);
CREATE TRIGGER count_new AFTER INSERT ON requests BEGIN
    UPDATE counts SET requests = requests + 1 WHERE state = NEW.state;
END;
CREATE TRIGGER count_moved AFTER UPDATE OF state ON requests WHEN NEW.state <> OLD.state BEGIN
    UPDATE counts SET requests = requests - 1 WHERE state = OLD.state;
    UPDATE counts SET requests = requests + 1 WHERE state = NEW.state;
END;
CREATE TRIGGER count_forgotten AFTER DELETE ON requests BEGIN
    UPDATE counts SET requests = requests - 1 WHERE state = OLD.state;
END;

CREATE TABLE entries (
    row      INTEGER NOT NULL,
    path     TEXT NOT NULL,
    size     INTEGER NOT NULL,
    digest   TEXT,
    file     TEXT,
    offset   INTEGER NOT NULL DEFAULT 0,
    stat     TEXT,
    uri      TEXT,
    checksum INTEGER,
    max_objects INTEGER,
    ref_version TEXT,
    resolved TEXT,
    PRIMARY KEY (row, path)
) STRICT, WITHOUT ROWID;

CREATE TABLE links (
    request TEXT NOT NULL,
    run_id  TEXT NOT NULL,
    run     TEXT NOT NULL,
    aliases TEXT NOT NULL,
    PRIMARY KEY (request, run_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX links_by_run ON links (run_id);

CREATE TABLE blobs (
    address  TEXT NOT NULL,
    store_id TEXT NOT NULL,
    project  TEXT NOT NULL,
    digest   TEXT NOT NULL,
    size     INTEGER NOT NULL,
    seen     REAL NOT NULL,
    PRIMARY KEY (address, store_id, project, digest)
) STRICT, WITHOUT ROWID;
