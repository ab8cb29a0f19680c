-- The queue's SQL. Each query begins with a line "-- name: …" and is known by that name
-- (`queries.py`); a test compiles them all, and looks at the plans of those that are asked often.

-- ── coming in ──────────────────────────────────────────────────────────────────────────────────

-- name: insert_entry
INSERT INTO entries (
    row, path, size, digest, file, offset, stat, data, uri, checksum, max_objects, ref_version, resolved,
    sums, lookup
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: insert_lookup
INSERT INTO lookups (row, number, uri, server, name, max_objects) VALUES (?, ?, ?, ?, ?, ?);

-- name: insert_removed
INSERT INTO removed (row, path) VALUES (?, ?) ON CONFLICT (row, path) DO NOTHING;

-- name: accepted_before
SELECT row, place, body FROM requests WHERE id = :id;

-- name: other_type_waiting
-- Types of a lane's requests that have not ended, other than this one.
SELECT type FROM requests
WHERE address = :address AND project = :project AND name = :name AND type < :type
    AND state NOT IN ('done', 'failed', 'cancelled')
UNION ALL
SELECT type FROM requests
WHERE address = :address AND project = :project AND name = :name AND type > :type
    AND state NOT IN ('done', 'failed', 'cancelled')
LIMIT 1;

-- name: next_place
UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE key = 'last_place'
RETURNING CAST(value AS INTEGER) AS place;

-- name: insert_request
INSERT INTO requests (
    row, id, body, place, state, address, project, name, type, description, metadata, aliases, tags,
    inputs, run, run_id, client, folder, synced, logged, floor, floor_store, accepted, entries, size,
    lookups, spooled_bytes, spooled_files, kind, draft, newest, base
) VALUES (
    :row, :id, :body, :place, :state, :address, :project, :name, :type, :description, :metadata,
    :aliases, :tags, :inputs, :run, :run_id, :client, :folder, :synced, :now, :floor, :floor_store,
    :now, :entries, :size, :lookups, :spooled_bytes, :spooled_files, :kind, :draft, :newest, :base
);

-- name: upsert_link
INSERT INTO links (request, run_id, run, aliases, project)
VALUES (:request, :run_id, :run, :aliases, :project)
ON CONFLICT (request, run_id) DO UPDATE SET run = excluded.run, aliases = excluded.aliases;

-- name: add_aliases
-- Changes nothing where all of them are there.
UPDATE requests
SET aliases = (
    SELECT json_group_array(value)
    FROM (
        SELECT value FROM json_each(requests.aliases)
        UNION ALL
        SELECT value FROM json_each(:aliases)
        WHERE value NOT IN (SELECT value FROM json_each(requests.aliases))
    )
)
WHERE row = :row
    AND EXISTS (
        SELECT 1 FROM json_each(:aliases)
        WHERE value NOT IN (SELECT value FROM json_each(requests.aliases))
    );

-- name: aliases
SELECT aliases FROM requests WHERE row = :row;

-- name: set_settled_again
UPDATE requests SET state = 'settled', ended = NULL WHERE row = :row;

-- name: links
SELECT run, aliases, run_id, project FROM links WHERE request = :request ORDER BY run_id;

-- name: link
SELECT aliases FROM links WHERE request = :request AND run_id = :run_id;

-- ── a request's way ────────────────────────────────────────────────────────────────────────────

-- name: head
-- What a change must know before it may start.
SELECT row, id, state, address, project, name, kind, base FROM requests WHERE row = :row;

-- name: head_by_id
SELECT row, id, state, address, project, name, kind, base FROM requests WHERE id = :id;

-- name: set_prepared
UPDATE requests
SET state = 'prepared', manifest = :manifest, digest = :digest, content = :content,
    entries = :entries, size = :size, error = '', reason = '', next_try = NULL
WHERE row = :row;

-- name: set_accepted_again
UPDATE requests
SET state = 'accepted', manifest = NULL, digest = NULL, content = NULL, error = '', reason = '', next_try = NULL
WHERE row = :row;

-- name: set_uploaded
UPDATE requests
SET state = 'uploaded', sent_since = :since, error = '', reason = '', next_try = NULL
WHERE row = :row;

-- name: set_prepared_again
UPDATE requests SET state = 'prepared' WHERE row = :row;

-- name: attempted
SELECT number, record FROM requests WHERE row = :row;

-- name: set_sending
UPDATE requests
SET state = 'sending', number = :number, record = :record, error = '', reason = '', next_try = NULL
WHERE row = :row;

-- name: set_sending_part
UPDATE requests SET state = 'sending', record = :record, error = '', reason = '', next_try = NULL WHERE row = :row;

-- name: set_part_put
UPDATE requests SET state = 'settled', error = '', reason = '', next_try = NULL WHERE row = :row;

-- name: set_sealing
UPDATE requests SET state = 'sending', sealed = :sealed, error = '', reason = '', next_try = NULL WHERE row = :row;

-- name: set_applied
UPDATE requests
SET manifest = :manifest, digest = :digest, content = :content, entries = :entries, size = :size
WHERE row = :row;

-- name: set_uploaded_again
UPDATE requests
SET state = 'uploaded', number = NULL, record = NULL, error = '', reason = '', next_try = NULL
WHERE row = :row;

-- name: set_settled
UPDATE requests
SET state = 'settled', version = :version, number = NULL, record = NULL, sealed = NULL,
    error = '', reason = '', next_try = NULL
WHERE row = :row;

-- name: set_aliases
UPDATE requests SET aliases = :aliases WHERE row = :row;

-- name: set_done
UPDATE requests
SET state = 'done', ended = :now, error = :error, reason = :reason, next_try = NULL
WHERE row = :row;

-- name: set_failed
UPDATE requests
SET state = 'failed', ended = :now, error = :error, reason = :reason, next_try = NULL,
    number = NULL, record = NULL, sealed = NULL
WHERE row = :row;

-- name: set_cancelled
UPDATE requests
SET state = 'cancelled', ended = :now, error = '', reason = '', next_try = NULL
WHERE row = :row;

-- name: set_retried
-- The floor stays: whatever was known when the request was first accepted is looked through again.
UPDATE requests
SET state = 'accepted', place = :place, accepted = :now, manifest = NULL, digest = NULL,
    content = NULL, error = '', reason = '', acknowledged = 0, ended = NULL
WHERE row = :row;

-- name: set_synced_in_line
-- The floor stays, as above: a copy of this home may have committed the request meanwhile.
UPDATE requests SET state = 'accepted', place = :place, accepted = :now WHERE row = :row;

-- name: set_waiting
UPDATE requests SET error = :error, reason = :reason, next_try = :next_try WHERE row = :row;

-- name: set_acknowledged
UPDATE requests SET acknowledged = 1 WHERE row = :row;

-- ── looking ────────────────────────────────────────────────────────────────────────────────────

-- name: request
SELECT * FROM requests WHERE row = :row;

-- name: find_in_line
SELECT * FROM requests
WHERE state = :state AND place > 0
    AND (:project = '' OR project = :project) AND (:name = '' OR name = :name)
    AND (NOT :not_acknowledged OR state <> 'failed' OR NOT acknowledged)
    AND address NOT IN (SELECT value FROM json_each(:without_stores))
    AND (:asking IS NULL OR (lookups > 0) = :asking)
    AND row NOT IN (SELECT value FROM json_each(:without_rows))
ORDER BY place, row
LIMIT :limit;

-- name: find_without_place
SELECT * FROM requests
WHERE state = :state AND place IS NULL
    AND (:project = '' OR project = :project) AND (:name = '' OR name = :name)
    AND (NOT :not_acknowledged OR state <> 'failed' OR NOT acknowledged)
    AND address NOT IN (SELECT value FROM json_each(:without_stores))
    AND (:asking IS NULL OR (lookups > 0) = :asking)
    AND row NOT IN (SELECT value FROM json_each(:without_rows))
ORDER BY row
LIMIT :limit;

-- name: find_by_part
-- The index of ids alone is read, whole.
SELECT * FROM requests
WHERE id IN (
        SELECT id FROM requests
        WHERE substr(id, -length(:part)) = :part OR substr(id, 1, length(:part)) = :part
        LIMIT :limit
    )
ORDER BY place IS NULL, place, row;

-- name: find_by_id
SELECT * FROM requests
WHERE id IN (SELECT value FROM json_each(:ids))
    AND (:run_id = '' OR run_id = :run_id
        OR EXISTS (SELECT 1 FROM links WHERE request = requests.id AND links.run_id = :run_id))
    AND (:states = '[]' OR state IN (SELECT value FROM json_each(:states)))
    AND (:project = '' OR project = :project) AND (:name = '' OR name = :name)
    AND (NOT :not_acknowledged OR state <> 'failed' OR NOT acknowledged)
    AND address NOT IN (SELECT value FROM json_each(:without_stores))
    AND (:asking IS NULL OR (lookups > 0) = :asking)
ORDER BY place IS NULL, place, row
LIMIT :limit;

-- name: find_by_run
SELECT * FROM requests
WHERE row IN (
        SELECT row FROM requests WHERE run_id = :run_id
        UNION ALL
        SELECT linked.row FROM links CROSS JOIN requests AS linked ON linked.id = links.request
        WHERE links.run_id = :run_id
    )
    AND (:states = '[]' OR state IN (SELECT value FROM json_each(:states)))
    AND (:project = '' OR project = :project) AND (:name = '' OR name = :name)
    AND (NOT :not_acknowledged OR state <> 'failed' OR NOT acknowledged)
    AND address NOT IN (SELECT value FROM json_each(:without_stores))
    AND (:asking IS NULL OR (lookups > 0) = :asking)
ORDER BY place IS NULL, place, row
LIMIT :limit;

-- name: counts
SELECT state, requests FROM counts;

-- name: spooled
SELECT state, spooled_bytes, spooled_files FROM counts;

-- name: entries
SELECT path, size, digest, file, offset, stat, uri, checksum, max_objects, ref_version, resolved, sums,
    pack, pack_offset, data
FROM entries
WHERE row = :row AND path > :after
ORDER BY path
LIMIT :limit;

-- name: entries_in_place
SELECT path, size, digest, file, offset, stat, uri, checksum, max_objects, ref_version, resolved, sums,
    pack, pack_offset, data
FROM entries
WHERE row = :row AND path > :after AND stat IS NOT NULL AND substr(file, 1, length(:spool)) <> :spool
ORDER BY path
LIMIT :limit;

-- name: rows_in_place
SELECT value AS row FROM json_each(:rows)
WHERE EXISTS (
    SELECT 1 FROM entries
    WHERE entries.row = value AND stat IS NOT NULL AND substr(file, 1, length(:spool)) <> :spool
);

-- name: removed
SELECT path FROM removed WHERE row = :row AND path > :after ORDER BY path LIMIT :limit;

-- name: in_line_before
SELECT count(*) AS ahead FROM requests
WHERE address = :address AND project = :project AND name = :name AND place < :place
    AND state NOT IN ('done', 'failed', 'cancelled') AND kind <> 'upsert';

-- name: held_before
SELECT count(*) AS ahead FROM requests
WHERE address = :address AND project = :project AND name = :name AND place IS NULL AND row < :row
    AND state NOT IN ('done', 'failed', 'cancelled') AND kind <> 'upsert';

-- name: folders
SELECT folder FROM requests
WHERE state IN ('held', 'accepted', 'prepared', 'uploaded', 'sending', 'settled')
    OR (state = 'failed' AND NOT acknowledged);

-- name: next_lane
SELECT address, project, name FROM requests
WHERE (address, project, name) > (:address, :project, :name)
    AND state NOT IN ('done', 'failed', 'cancelled')
ORDER BY address, project, name
LIMIT 1;

-- name: line
SELECT * FROM requests
WHERE address = :address AND project = :project AND name = :name AND place > 0
    AND state NOT IN ('done', 'failed', 'cancelled') AND state <> 'settled'
    AND (:upserts OR kind <> 'upsert')
ORDER BY place
LIMIT :limit;

-- name: has_line
SELECT 1 FROM requests
WHERE address = :address AND project = :project AND name = :name AND place > 0
    AND state NOT IN ('done', 'failed', 'cancelled') AND state <> 'settled'
    AND (:upserts OR kind <> 'upsert')
LIMIT 1;

-- name: unaliased
SELECT * FROM requests WHERE state = 'settled' AND kind <> 'upsert' ORDER BY place;

-- ── drafts ─────────────────────────────────────────────────────────────────────────────────────

-- name: upserts
SELECT row, address, project, name FROM requests
WHERE kind <> 'log' AND state NOT IN ('done', 'failed', 'cancelled') AND draft > ''
    AND kind = 'upsert' AND state IN ('uploaded', 'sending', 'settled')
ORDER BY state = 'settled', place
LIMIT :limit;

-- name: parts_missing
-- Upserts of a finish's draft that came before it, and whose parts are not known to be in the store.
SELECT count(*) AS missing FROM requests AS finish JOIN requests AS upsert
    ON upsert.draft = finish.draft AND upsert.kind <> 'log'
        AND upsert.state NOT IN ('done', 'failed', 'cancelled')
WHERE finish.row = :row AND upsert.kind = 'upsert' AND upsert.address = finish.address
    AND upsert.place < finish.place AND upsert.state <> 'settled';

-- name: insert_gathered
INSERT INTO gathered (row, path, part, line) VALUES (?, ?, ?, ?)
ON CONFLICT (row, path, part) DO UPDATE SET line = excluded.line;

-- name: gathered
SELECT path, part, line FROM gathered
WHERE row = :row AND (path, part) > (:path, :part)
ORDER BY path, part
LIMIT :limit;

-- name: delete_gathered
DELETE FROM gathered
WHERE (row, path, part) IN (SELECT row, path, part FROM gathered WHERE row = :row LIMIT :limit);

-- ── entries ────────────────────────────────────────────────────────────────────────────────────

-- name: set_digest
UPDATE entries SET digest = ?, size = ? WHERE row = ? AND path = ?;

-- name: set_place
UPDATE entries SET pack = ?, pack_offset = ? WHERE row = ? AND path = ?;

-- name: insert_pack
INSERT INTO packs (row, pack, size) VALUES (:row, :pack, :size)
ON CONFLICT (row, pack) DO NOTHING;

-- name: packs
SELECT pack, size FROM packs WHERE row = :row;

-- name: forget_places
UPDATE entries SET pack = NULL, pack_offset = NULL WHERE row = :row AND pack IS NOT NULL;

-- name: delete_packs
DELETE FROM packs WHERE row = :row;

-- name: set_stat
UPDATE entries SET stat = ? WHERE row = ? AND path = ? AND stat IS NOT NULL AND digest IS NULL;

-- name: found_entry
SELECT size, digest, uri, ref_version, lookup FROM entries WHERE row = :row AND path = :path;

-- name: lookups
SELECT number, uri, server, name, max_objects, is_prefix, after, found FROM lookups
WHERE row = :row AND number > :after AND NOT done
ORDER BY number
LIMIT :limit;

-- name: set_found
UPDATE lookups SET is_prefix = ?, after = ?, found = ?, done = ? WHERE row = ? AND number = ? AND NOT done;

-- name: count_lookups
UPDATE requests SET lookups = lookups - :done WHERE row = :row;

-- name: begin_lookups_anew
UPDATE lookups SET is_prefix = 0, after = '', found = -1 WHERE row = :row AND NOT done;

-- name: delete_found
DELETE FROM entries
WHERE (row, path) IN (
    SELECT row, path FROM entries WHERE row = :row AND lookup = :number LIMIT :limit
);

-- name: delete_lookups
DELETE FROM lookups
WHERE (row, number) IN (SELECT row, number FROM lookups WHERE row = :row LIMIT :limit);

-- name: delete_removed
DELETE FROM removed
WHERE (row, path) IN (SELECT row, path FROM removed WHERE row = :row LIMIT :limit);

-- name: delete_entries
DELETE FROM entries
WHERE (row, path) IN (SELECT row, path FROM entries WHERE row = :row LIMIT :limit);

-- name: has_entries
SELECT 1 WHERE EXISTS (SELECT 1 FROM entries WHERE row = :row)
    OR EXISTS (SELECT 1 FROM lookups WHERE row = :row)
    OR EXISTS (SELECT 1 FROM gathered WHERE row = :row)
    OR EXISTS (SELECT 1 FROM removed WHERE row = :row);

-- name: orphans
-- From row to row in the primary key, past the entries of each.
WITH RECURSIVE staged (row) AS (
    SELECT min(row) FROM entries
    UNION ALL
    SELECT (SELECT min(row) FROM entries WHERE row > staged.row) FROM staged WHERE row < :below
)
SELECT row FROM staged
WHERE row < :below AND NOT EXISTS (SELECT 1 FROM requests WHERE requests.row = staged.row);

-- name: orphan_lookups
WITH RECURSIVE staged (row) AS (
    SELECT min(row) FROM lookups
    UNION ALL
    SELECT (SELECT min(row) FROM lookups WHERE row > staged.row) FROM staged WHERE row < :below
)
SELECT row FROM staged
WHERE row < :below AND NOT EXISTS (SELECT 1 FROM requests WHERE requests.row = staged.row);

-- name: orphan_removed
WITH RECURSIVE staged (row) AS (
    SELECT min(row) FROM removed
    UNION ALL
    SELECT (SELECT min(row) FROM removed WHERE row > staged.row) FROM staged WHERE row < :below
)
SELECT row FROM staged
WHERE row < :below AND NOT EXISTS (SELECT 1 FROM requests WHERE requests.row = staged.row);

-- ── what is known of stores ────────────────────────────────────────────────────────────────────

-- name: known
SELECT stores.store_id, type, coalesce(highest, -1) AS highest,
    coalesce(highest_request, '') AS highest_request
FROM stores LEFT JOIN artifacts
    ON artifacts.address = stores.address AND artifacts.store_id = stores.store_id
        AND project = :project AND name = :name
WHERE stores.address = :address;

-- name: learn
-- A type that is not known now does not erase one that was.
INSERT INTO artifacts (address, store_id, project, name, type, highest, highest_request)
VALUES (:address, :store_id, :project, :name, :type, :highest, :highest_request)
ON CONFLICT (address, store_id, project, name) DO UPDATE SET
    type = coalesce(excluded.type, type),
    highest_request = iif(excluded.highest < highest, highest_request, excluded.highest_request),
    highest = max(excluded.highest, highest);

-- name: replace_known
INSERT INTO artifacts (address, store_id, project, name, highest, highest_request)
VALUES (:address, :store_id, :project, :name, :highest, :highest_request)
ON CONFLICT (address, store_id, project, name) DO UPDATE SET
    type = NULL, highest = excluded.highest, highest_request = excluded.highest_request;

-- name: store
SELECT store_id, probed FROM stores WHERE address = :address;

-- name: upsert_store
INSERT INTO stores (address, store_id) VALUES (:address, :store_id)
ON CONFLICT (address) DO UPDATE SET store_id = excluded.store_id;

-- name: set_probed
UPDATE stores SET probed = store_id WHERE address = :address;

-- name: sent_already
-- What lies in a pack is no object of its own.
SELECT digest
FROM json_each(:digests) AS wanted CROSS JOIN stores CROSS JOIN blobs
    ON blobs.address = stores.address AND blobs.store_id = stores.store_id
        AND blobs.project = :project AND blobs.digest = wanted.value
WHERE stores.address = :address AND blobs.pack IS NULL;

-- name: places
-- What lies in a pack counts as long as the pack does: one that is lost takes all of it along.
SELECT digest, pack, pack_offset
FROM json_each(:digests) AS wanted CROSS JOIN stores CROSS JOIN blobs
    ON blobs.address = stores.address AND blobs.store_id = stores.store_id
        AND blobs.project = :project AND blobs.digest = wanted.value
WHERE stores.address = :address AND (blobs.pack IS NULL OR EXISTS (
    SELECT 1 FROM blobs AS whole
    WHERE whole.address = blobs.address AND whole.store_id = blobs.store_id
        AND whole.project = blobs.project AND whole.digest = 'pack:' || blobs.pack
));

-- name: done_records
SELECT digest, size, seen, sender
FROM json_each(:digests) AS wanted CROSS JOIN stores CROSS JOIN blobs
    ON blobs.address = stores.address AND blobs.store_id = stores.store_id
        AND blobs.project = :project AND blobs.digest = wanted.value
WHERE stores.address = :address AND blobs.pack IS NULL;

-- name: note_sent
INSERT INTO blobs (address, store_id, project, digest, size, seen, pack, pack_offset, sender)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (address, store_id, project, digest) DO UPDATE SET
    size = excluded.size, seen = excluded.seen, pack = excluded.pack, pack_offset = excluded.pack_offset,
    sender = excluded.sender;

-- name: forget_lost
DELETE FROM blobs
WHERE address = :address AND store_id = :store_id AND project = :project
    AND digest IN (SELECT value FROM json_each(:digests));

-- name: forget_type
UPDATE artifacts SET type = NULL
WHERE address = :address AND project = :project AND name = :name
    AND store_id = (SELECT store_id FROM stores WHERE address = :address);

-- name: forget_sent
DELETE FROM blobs WHERE address = :address AND store_id = :store_id AND project = :project;

-- ── uploads in parts ───────────────────────────────────────────────────────────────────────────

-- name: keep_part_sums
INSERT INTO part_sums (row, digest, part_bytes, sums) VALUES (:row, :digest, :part_bytes, :sums)
ON CONFLICT (row, digest) DO UPDATE SET part_bytes = excluded.part_bytes, sums = excluded.sums;

-- name: part_sums
SELECT part_bytes, sums FROM part_sums WHERE row = :row AND digest = :digest;

-- name: delete_part_sums
DELETE FROM part_sums WHERE row = :row;

-- name: upload
SELECT uploads.* FROM uploads JOIN stores USING (address, store_id)
WHERE address = :address AND project = :project AND digest = :digest;

-- name: take_upload
UPDATE uploads SET row = :row WHERE number = :number;

-- name: sent_parts
SELECT number, etag FROM sent_parts WHERE upload = :upload;

-- name: begin_upload
INSERT INTO uploads (address, store_id, project, digest, name, part_bytes, row)
VALUES (:address, :store_id, :project, :digest, :name, :part_bytes, :row)
RETURNING number;

-- name: note_part
INSERT INTO sent_parts (upload, number, etag)
SELECT :upload, :number, :etag WHERE EXISTS (SELECT 1 FROM uploads WHERE uploads.number = :upload)
ON CONFLICT (upload, number) DO UPDATE SET etag = excluded.etag;

-- name: uploads_of
SELECT number FROM uploads
WHERE address = :address AND project = :project AND digest IN (SELECT value FROM json_each(:digests));

-- name: forget_parts
DELETE FROM sent_parts WHERE upload = :upload;

-- name: forget_upload
DELETE FROM uploads WHERE number = :upload;

-- name: given_up
SELECT uploads.* FROM uploads LEFT JOIN requests USING (row)
WHERE requests.row IS NULL OR requests.state IN ('uploaded', 'sending', 'settled', 'done', 'failed', 'cancelled')
ORDER BY uploads.number LIMIT :limit;

-- name: uploads_at
SELECT name FROM uploads WHERE address = :address;

-- ── stopped lanes ──────────────────────────────────────────────────────────────────────────────

-- name: stop_lane
INSERT INTO stopped_lanes (address, project, name, reason) VALUES (:address, :project, :name, :reason)
ON CONFLICT (address, project, name) DO UPDATE SET reason = excluded.reason;

-- name: tell_stop
-- Those that a restart sends back to be uploaded, which clears it.
UPDATE requests SET error = :error, reason = :reason, next_try = NULL
WHERE address = :address AND project = :project AND name = :name AND state IN ('uploaded', 'sending');

-- name: held_up
SELECT id FROM requests
WHERE address = :address AND project = :project AND name = :name
    AND state IN ('accepted', 'prepared', 'uploaded', 'sending');

-- name: start_lane
DELETE FROM stopped_lanes WHERE address = :address AND project = :project AND name = :name;

-- name: stopped
SELECT address, project, name, reason FROM stopped_lanes;

-- name: forget_floors
-- Empty project: of all lanes at the address. Failed requests too: they may be retried.
UPDATE requests SET floor = -1, floor_store = ''
WHERE address = :address AND (:project = '' OR (project = :project AND name = :name))
    AND state IN ('held', 'accepted', 'prepared', 'uploaded', 'sending', 'failed');

-- name: forget_attempts
-- Of finishes whose draft is sealed in the store: which number it has is looked for again.
UPDATE requests SET number = NULL, record = NULL
WHERE row IN (SELECT value FROM json_each(:rows)) AND kind = 'finish' AND state = 'sending';

-- name: to_upload_again
UPDATE requests
SET state = 'prepared', number = NULL, record = NULL, sealed = NULL, error = '', reason = '', next_try = NULL
WHERE address = :address AND (:project = '' OR (project = :project AND name = :name))
    AND (state IN ('uploaded', 'sending') OR (state = 'settled' AND kind = 'upsert'))
    AND row NOT IN (SELECT value FROM json_each(:there))
RETURNING row, id, state, address, project, name, kind, base;

-- ── upkeep ─────────────────────────────────────────────────────────────────────────────────────

-- name: meta
SELECT value FROM meta WHERE key = :key;

-- name: set_meta
INSERT INTO meta (key, value) VALUES (:key, :value)
ON CONFLICT (key) DO UPDATE SET value = excluded.value;

-- name: next_start
UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE key = 'starts'
RETURNING CAST(value AS INTEGER) AS start;

-- name: forgettable
SELECT row, id FROM requests INDEXED BY requests_by_end
WHERE ended < :before AND (state IN ('done', 'cancelled') OR (state = 'failed' AND acknowledged))
LIMIT :limit;

-- name: forget_links
DELETE FROM links WHERE request = :id;

-- name: forget_request
DELETE FROM requests WHERE row = :row;

-- name: unfreed
SELECT * FROM requests INDEXED BY requests_unfreed
WHERE freed = 0 AND state IN ('done', 'cancelled')
ORDER BY row
LIMIT :limit;

-- name: set_freed
UPDATE requests SET freed = 1, spooled_bytes = 0, spooled_files = 0 WHERE row = :row;

-- name: take_off
-- Of what is free already there is nothing left to take off.
UPDATE requests
SET spooled_bytes = max(0, spooled_bytes - :bytes), spooled_files = max(0, spooled_files - :files)
WHERE row = :row;

-- name: take_off_folders
-- Of failures that were seen: their folders go with their session.
UPDATE requests SET spooled_bytes = 0, spooled_files = 0
WHERE state = 'failed' AND acknowledged AND folder IN (SELECT value FROM json_each(:folders));

-- name: going_on
SELECT requests.row FROM json_each(:rows) AS asked JOIN requests ON requests.row = asked.value
WHERE state NOT IN ('done', 'failed', 'cancelled');

-- name: unsynced
SELECT * FROM requests INDEXED BY requests_unsynced
WHERE synced = 0 AND state NOT IN ('done', 'cancelled')
ORDER BY row
LIMIT :limit;

-- name: set_synced
UPDATE requests SET synced = 1 WHERE row = :row;

-- ── runs ───────────────────────────────────────────────────────────────────────────────────────

-- name: run_of_request
-- Of a request: who logged it, and as which version.
SELECT run, run_id, draft, version FROM requests WHERE row = :row;

-- name: forget_facts
-- Told anew: what was told before counts no more.
DELETE FROM run_notes
WHERE address = :address AND place = :place AND project = :project AND run_id = :run_id AND kind = 'facts'
    AND value <> :value;

-- name: note_run
-- Nothing where it is noted already; but what is told online is held no more.
INSERT INTO run_notes (address, place, project, run_id, run, kind, value, held, is_end, noted)
VALUES (:address, :place, :project, :run_id, :run, :kind, :value, :held, :is_end, :now)
ON CONFLICT DO UPDATE SET held = 0 WHERE held = 1 AND excluded.held = 0;

-- name: release_run
UPDATE run_notes SET held = 0 WHERE run_id = :run_id AND record IS NULL AND held = 1;

-- name: release_runs
UPDATE run_notes SET held = 0 WHERE record IS NULL AND held = 1;

-- name: run_places
-- Where there is something to write.
SELECT DISTINCT address, place FROM run_notes WHERE record IS NULL AND held = 0
UNION SELECT address, place FROM run_records;

-- name: open_notes
-- What is in no record yet, in the order in which it was noted.
SELECT number, address, place, project, run_id, run, kind, value, is_end, noted FROM run_notes
WHERE address = :address AND place = :place AND record IS NULL AND held = 0 ORDER BY number LIMIT :limit;

-- name: insert_run_record
INSERT INTO run_records (address, place, run_id, body) VALUES (:address, :place, :run_id, :body)
RETURNING number;

-- name: put_in_record
UPDATE run_notes SET record = :record WHERE number = :number;

-- name: run_records
SELECT number, address, place, run_id, body FROM run_records
WHERE address = :address AND place = :place ORDER BY number LIMIT :limit;

-- name: run_record_again
INSERT INTO run_records (address, place, run_id, body)
SELECT address, place, run_id, body FROM run_records WHERE number = :number
RETURNING number;

-- name: delete_run_record
DELETE FROM run_records WHERE number = :number;

-- name: run_is_open
-- Whether something of a run is not in its own project yet.
SELECT EXISTS (
    SELECT 1 FROM run_notes
    WHERE run_id = :run_id AND record IS NULL AND held = 0 AND address = :address AND place = :place
) OR EXISTS (
    SELECT 1 FROM run_records WHERE run_id = :run_id AND address = :address AND place = :place
) AS is_open;

-- name: runs_waiting
-- How many runs have something that is not in their store; those that offline mode holds apart.
SELECT
    (SELECT COUNT(*) FROM (
        SELECT run_id FROM run_notes WHERE record IS NULL AND held = 0
        UNION SELECT run_id FROM run_records
    )) AS waiting,
    (SELECT COUNT(DISTINCT run_id) FROM run_notes WHERE record IS NULL AND held = 1) AS held;

-- name: forget_notes
DELETE FROM run_notes WHERE number IN (
    SELECT number FROM run_notes WHERE noted < :before AND record IS NOT NULL LIMIT :limit
);

-- name: forget_recorded
-- Another store counts at an address: it has none of the records.
DELETE FROM run_notes WHERE address = :address AND record IS NOT NULL;

-- name: drop_notes
-- Of one place, or of all below an address, or of all.
DELETE FROM run_notes
WHERE record IS NULL AND address = coalesce(:address, address) AND place = coalesce(:place, place);

-- name: drop_records
DELETE FROM run_records WHERE address = coalesce(:address, address) AND place = coalesce(:place, place);
