-- The queue, whole. `migrations/` leads from older versions to this; a test compares the two.
--
-- A request's states and arrows. Every arrow is one transaction, written before it is acted on.
--
--   held ──sync──► accepted ─► prepared ─► uploaded ─► sending ─► settled ─► done
--                      │           │           │        ▲    │
--                      └───────────┴───────────┤        └────┘ number taken by another: the next one
--                                              ▼
--                                     failed, cancelled
--                                        │
--                                        └─retry─► accepted, in a new place (failed ones)
--
-- A held request can be cancelled or fail as well. From `uploaded` a request goes back to `prepared`, or to
-- `accepted`, when the store has lost what it names.
-- From `sending` on a request can be neither cancelled nor failed: its record may be in the store.
-- (One exception: a lane whose store was exchanged; after the user's `wherry retry`, `uploaded` and
-- `sending` go back to `prepared`, and to `accepted` where their manifest points at bytes that the store
-- does not have.) A request that equals the highest version goes from `uploaded` to `settled`.
-- A request without an alias to give is `settled` and `done` in one change.
--
-- A request with a base gets its manifest, content and size anew while it is `uploaded`: what its changes come to.
-- Where the base is whichever version comes before its own, it goes back from `sending` to `uploaded` when another
-- has its number: then its record is nowhere.
--
-- An upsert takes no number: `sending` means that its part may be in the store, `settled` that it is there, `done`
-- that the draft's version has it, or will. A finish is `sending` from the moment that it may have sealed the draft.
-- Two arrows are theirs alone, both for a draft that was sealed without them: an upsert fails from `settled`, and a
-- finish that brings what is not in the version fails from `uploaded` or `sending`.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('last_place', '0'), ('starts', '0');
-- home_id: names this home in run records; random.
-- last_place: the highest place in line that was ever given; the first is 1.
-- starts: how often the queue was opened; tells the row numbers of one start from another's.
-- boot: the machine's boot for which unsynced bytes were looked after last.

-- What is known of the store at an address. `store_id` is the one that counts now; '' before the first contact.
CREATE TABLE stores (
    address  TEXT PRIMARY KEY,
    store_id TEXT NOT NULL DEFAULT '',
    probed   TEXT NOT NULL DEFAULT ''          -- store id for which the probe was passed
) STRICT, WITHOUT ROWID;

-- What is known of an artifact in one store. Knowledge of another store id at the same address is
-- kept beside it and does not count.
CREATE TABLE artifacts (
    address         TEXT NOT NULL,
    store_id        TEXT NOT NULL,
    project         TEXT NOT NULL,
    name            TEXT NOT NULL,
    type            TEXT,                       -- claimed in the store; NULL: not known
    highest         INTEGER NOT NULL DEFAULT -1,  -- highest number seen in the store
    highest_request TEXT NOT NULL DEFAULT '',   -- the request id in that record
    PRIMARY KEY (address, store_id, project, name)
) STRICT, WITHOUT ROWID;

-- Lanes that wait for the user to look and say `wherry retry`.
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
    body        BLOB NOT NULL,                  -- SHA-256 of what was asked: the same id with another body is an error
    place       INTEGER UNIQUE,                 -- place in line; NULL while held
    state       TEXT NOT NULL CHECK (state IN
        ('held', 'accepted', 'prepared', 'uploaded', 'sending', 'settled', 'done', 'failed', 'cancelled')),
    address     TEXT NOT NULL,
    project     TEXT NOT NULL,
    name        TEXT NOT NULL,
    type        TEXT NOT NULL,
    description TEXT,
    metadata    TEXT NOT NULL,                  -- JSON object
    aliases     TEXT NOT NULL,                  -- JSON array
    tags        TEXT NOT NULL,                  -- JSON array
    inputs      TEXT NOT NULL,                  -- JSON array
    run         TEXT NOT NULL,                  -- JSON object, model.RunInfo
    run_id      TEXT NOT NULL,                  -- the id in it, for the index
    client      TEXT NOT NULL,
    folder      TEXT NOT NULL,                  -- the artifact's folder below spool/, ours until it is freed
    synced      INTEGER NOT NULL,               -- 1: the captured bytes survive a power loss
    logged      REAL NOT NULL,                  -- when it became durable
    floor       INTEGER NOT NULL DEFAULT -1,    -- highest number known in its lane at that time …
    floor_store TEXT NOT NULL DEFAULT '',       -- … in the store of this id
    accepted    REAL NOT NULL,                  -- when it got its place, the last time
    entries     INTEGER NOT NULL,
    size        INTEGER NOT NULL,               -- bytes
    -- from `prepared` on
    manifest    TEXT,
    digest      TEXT,
    content     TEXT,
    -- in `sending`: the number that is tried, and the record's bytes
    number      INTEGER,
    record      BLOB,
    -- from `settled` on
    version     INTEGER,
    -- why it waits (until it goes on) or failed (for ever)
    error       TEXT NOT NULL DEFAULT '',       -- class in wherry.errors
    reason      TEXT NOT NULL DEFAULT '',
    next_try    REAL,
    acknowledged INTEGER NOT NULL DEFAULT 0,
    ended       REAL,
    freed       INTEGER NOT NULL DEFAULT 0,     -- 1: its part of the spool is known to be free
    lookups     INTEGER NOT NULL DEFAULT 0,     -- how many of its lookups are not done
    sent_since  REAL,                           -- since when it has put all that it names; NULL: some was there
    -- what its folder holds of the spool; what has left is taken off before the files go
    spooled_bytes INTEGER NOT NULL DEFAULT 0,
    spooled_files INTEGER NOT NULL DEFAULT 0,
    kind        TEXT NOT NULL DEFAULT 'log' CHECK (kind IN ('log', 'upsert', 'finish')),
    -- of an upsert or a finish
    draft       TEXT NOT NULL DEFAULT '',       -- <hex>
    newest      INTEGER NOT NULL DEFAULT 0,     -- 1: of two parts with other bytes at a path, the later one counts
    sealed      BLOB,                           -- in `sending`, of a finish: its sealed.json, which may have been sent
    base        TEXT                            -- JSON, model.Base: the entries are changes to it; NULL: they are all
) STRICT;
CREATE INDEX requests_by_state ON requests (state, place, row, address);
CREATE INDEX requests_by_run ON requests (run_id);
CREATE INDEX requests_by_end ON requests (ended) WHERE ended IS NOT NULL;
CREATE INDEX requests_by_lane ON requests (address, project, name, place)
    WHERE state NOT IN ('done', 'failed', 'cancelled');
CREATE INDEX requests_by_type ON requests (address, project, name, type)
    WHERE state NOT IN ('done', 'failed', 'cancelled');
CREATE INDEX requests_by_draft ON requests (draft) WHERE kind <> 'log' AND state NOT IN ('done', 'failed', 'cancelled');
CREATE INDEX requests_unfreed ON requests (row) WHERE freed = 0 AND state IN ('done', 'cancelled');
CREATE INDEX requests_unsynced ON requests (row) WHERE synced = 0 AND state NOT IN ('done', 'cancelled');

-- How many requests are in each state, and what they hold of the spool: `status` would have to count 30 days of
-- done ones.
CREATE TABLE counts (
    state    TEXT PRIMARY KEY,
    requests INTEGER NOT NULL,
    spooled_bytes INTEGER NOT NULL DEFAULT 0,
    spooled_files INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
INSERT INTO counts (state, requests) VALUES
    ('held', 0), ('accepted', 0), ('prepared', 0), ('uploaded', 0), ('sending', 0), ('settled', 0),
    ('done', 0), ('failed', 0), ('cancelled', 0);
CREATE TRIGGER count_new AFTER INSERT ON requests BEGIN
    UPDATE counts
    SET requests = requests + 1, spooled_bytes = spooled_bytes + NEW.spooled_bytes,
        spooled_files = spooled_files + NEW.spooled_files
    WHERE state = NEW.state;
END;
CREATE TRIGGER count_moved AFTER UPDATE OF state, spooled_bytes, spooled_files ON requests
WHEN NEW.state <> OLD.state OR NEW.spooled_bytes <> OLD.spooled_bytes OR NEW.spooled_files <> OLD.spooled_files
BEGIN
    UPDATE counts
    SET requests = requests - 1, spooled_bytes = spooled_bytes - OLD.spooled_bytes,
        spooled_files = spooled_files - OLD.spooled_files
    WHERE state = OLD.state;
    UPDATE counts
    SET requests = requests + 1, spooled_bytes = spooled_bytes + NEW.spooled_bytes,
        spooled_files = spooled_files + NEW.spooled_files
    WHERE state = NEW.state;
END;
CREATE TRIGGER count_forgotten AFTER DELETE ON requests BEGIN
    UPDATE counts
    SET requests = requests - 1, spooled_bytes = spooled_bytes - OLD.spooled_bytes,
        spooled_files = spooled_files - OLD.spooled_files
    WHERE state = OLD.state;
END;

-- A request's entries, in manifest order. Rows without a request belong to a stream that is still
-- coming in; what is left of them at a start is swept.
CREATE TABLE entries (
    row      INTEGER NOT NULL,                  -- requests.row
    path     TEXT NOT NULL,                     -- BINARY collation: by UTF-8 bytes
    size     INTEGER NOT NULL,
    digest   TEXT,                              -- NULL until it is made
    file     TEXT,                              -- absolute path of the bytes on this machine
    offset   INTEGER NOT NULL DEFAULT 0,
    stat     TEXT,                              -- JSON, model.FileStat: shared with the user's file
    uri      TEXT,                              -- a reference
    checksum INTEGER,
    max_objects INTEGER,
    ref_version TEXT,
    resolved TEXT,
    lookup   INTEGER,                           -- which lookup found it; NULL: the client sent it
    sums     TEXT,                              -- JSON array: its server's further checksums; NULL: none
    pack     TEXT,                              -- the pack that holds its bytes, <hex>; NULL: none
    pack_offset INTEGER,                        -- where in the pack they begin
    data     BLOB,                              -- the bytes themselves, of a small request; NULL: they lie in file
    PRIMARY KEY (row, path)
) STRICT, WITHOUT ROWID;

-- The packs that a request makes out of its own files; its entries may lie in others, which the store has. Swept
-- as entries are.
CREATE TABLE packs (
    row  INTEGER NOT NULL,                      -- requests.row
    pack TEXT NOT NULL,                         -- <hex>
    size INTEGER NOT NULL,                      -- bytes
    PRIMARY KEY (row, pack)
) STRICT, WITHOUT ROWID;

-- Files that go in parts: the SHA-256 of each part, made when the whole was hashed. Swept as entries are.
CREATE TABLE part_sums (
    row        INTEGER NOT NULL,                -- requests.row
    digest     TEXT NOT NULL,                   -- of the whole
    part_bytes INTEGER NOT NULL,                -- of each part but the last
    sums       BLOB NOT NULL,                   -- 32 bytes a part, back to back; then perhaps a CRC32C (4)
    PRIMARY KEY (row, digest)
) STRICT, WITHOUT ROWID;

-- Uploads in parts that are under way: a daemon that was killed goes on with them.
CREATE TABLE uploads (
    number     INTEGER PRIMARY KEY AUTOINCREMENT, -- never given twice: a late note must not meet another upload
    address    TEXT NOT NULL,
    store_id   TEXT NOT NULL,                   -- of the store that counted when it began
    project    TEXT NOT NULL,
    digest     TEXT NOT NULL,                   -- of the blob that it becomes
    name       TEXT NOT NULL,                   -- what the store calls it
    part_bytes INTEGER NOT NULL,
    row        INTEGER NOT NULL,                -- requests.row of the one that sends, or sent last
    UNIQUE (address, project, digest)
) STRICT;
CREATE TABLE sent_parts (
    upload INTEGER NOT NULL,                    -- uploads.number
    number INTEGER NOT NULL,                    -- from 1 on
    etag   TEXT NOT NULL,
    PRIMARY KEY (upload, number)
) STRICT, WITHOUT ROWID;

-- References to servers: what was asked for, until it is known what it stands for. Swept as entries are.
CREATE TABLE lookups (
    row         INTEGER NOT NULL,               -- requests.row
    number      INTEGER NOT NULL,               -- in the order in which they were added
    uri         TEXT NOT NULL,                  -- as it was given
    server      TEXT NOT NULL,                  -- a bucket's address, '' where the URI says all
    name        TEXT NOT NULL,                  -- the entry's path, or what comes before the paths; '' the URI's own
    max_objects INTEGER NOT NULL,
    is_prefix   INTEGER NOT NULL DEFAULT 0,     -- 1: no object, its listing is under way
    after       TEXT NOT NULL DEFAULT '',       -- where the listing goes on
    found       INTEGER NOT NULL DEFAULT 0,     -- entries that it led to so far
    done        INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (row, number)
) STRICT, WITHOUT ROWID;

-- What a finish has read of its draft's parts, to sort it by path. Swept as entries are.
CREATE TABLE gathered (
    row  INTEGER NOT NULL,                      -- requests.row
    path TEXT NOT NULL,                         -- BINARY collation: by UTF-8 bytes
    part INTEGER NOT NULL,                      -- which part it is of, in the order in which they count
    line BLOB NOT NULL,                         -- JSON, model.ManifestEntry
    PRIMARY KEY (row, path, part)
) STRICT, WITHOUT ROWID;

-- Paths that a request takes out of its base: of entries, and of folders. Swept as entries are.
CREATE TABLE removed (
    row  INTEGER NOT NULL,                      -- requests.row
    path TEXT NOT NULL,
    PRIMARY KEY (row, path)
) STRICT, WITHOUT ROWID;

-- Runs that logged an Artifact again after its own request.
CREATE TABLE links (
    request TEXT NOT NULL,                      -- requests.id
    run_id  TEXT NOT NULL,
    run     TEXT NOT NULL,                      -- JSON object, model.RunInfo
    aliases TEXT NOT NULL,                      -- JSON array
    project TEXT NOT NULL DEFAULT '',           -- the run's; '' that of the request
    PRIMARY KEY (request, run_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX links_by_run ON links (run_id);

-- What runs have done that no version's record tells. Kept after it is in a record, so that it is in no second one.
CREATE TABLE run_notes (
    number  INTEGER PRIMARY KEY AUTOINCREMENT,  -- facts that are told anew get another one
    address TEXT NOT NULL,
    place   TEXT NOT NULL,                      -- the project below which the record lies
    project TEXT NOT NULL,                      -- the run's
    run_id  TEXT NOT NULL,
    run     TEXT NOT NULL,                      -- JSON object, model.RunInfo
    kind    TEXT NOT NULL CHECK (kind IN ('facts', 'used', 'logged', 'draft')),
    value   TEXT NOT NULL,                      -- a version's name, a draft's id; of facts JSON, model.RunFacts
    held    INTEGER NOT NULL,                   -- 1: by offline mode
    is_end  INTEGER NOT NULL,                   -- 1: facts that tell of the run's end: nobody waits for more
    noted   REAL NOT NULL,
    record  INTEGER,                            -- run_records.number that has it; NULL: none yet
    UNIQUE (address, place, project, run_id, kind, value)
) STRICT;
CREATE INDEX run_notes_open ON run_notes (address, place, number) WHERE record IS NULL;
CREATE INDEX run_notes_by_run ON run_notes (run_id) WHERE record IS NULL;
CREATE INDEX run_notes_by_time ON run_notes (noted);

-- Records of runs, from before they are first sent until they are seen in the store. Their number is in their key.
CREATE TABLE run_records (
    number  INTEGER PRIMARY KEY AUTOINCREMENT,  -- never given twice
    address TEXT NOT NULL,
    place   TEXT NOT NULL,
    run_id  TEXT NOT NULL,
    body    BLOB NOT NULL
) STRICT;

-- Done-records: bytes that this home has seen in a store.
CREATE TABLE blobs (
    address  TEXT NOT NULL,
    store_id TEXT NOT NULL,
    project  TEXT NOT NULL,
    digest   TEXT NOT NULL,                     -- of a whole pack: pack:<hex>
    size     INTEGER NOT NULL,
    seen     REAL NOT NULL,                     -- when it was put or looked at last
    pack     TEXT,                              -- where the bytes lie; NULL: in a blob of their own
    pack_offset INTEGER,
    sender   INTEGER,                           -- requests.row of the one that put the object; NULL: it was there
    PRIMARY KEY (address, store_id, project, digest)
) STRICT, WITHOUT ROWID;
