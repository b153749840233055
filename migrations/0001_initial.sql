-- One row per upload: its frozen plan, and how far it is. Times are Unix nanoseconds.
CREATE TABLE uploads (
    id INTEGER PRIMARY KEY,
    drop_name TEXT NOT NULL,
    path BLOB NOT NULL,
    destination TEXT NOT NULL,
    device INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL CHECK (size_bytes >= 0),
    mtime_ns INTEGER NOT NULL,
    target_folder TEXT NOT NULL,
    target_name TEXT NOT NULL,
    wished_part_size_bytes INTEGER NOT NULL CHECK (wished_part_size_bytes > 0),
    rank INTEGER NOT NULL,
    stage TEXT NOT NULL CHECK (stage IN ('queued', 'beginning', 'sending', 'completing',
        'completed', 'verified', 'receipted', 'source-changed', 'abandoned')),
    hold TEXT NOT NULL CHECK (hold IN ('none', 'waiting', 'parked')),
    retry_at_ns INTEGER,
    park_reason TEXT,
    park_detail TEXT,
    last_error TEXT,
    remote_upload_id TEXT,
    part_size_bytes INTEGER CHECK (part_size_bytes > 0),
    part_count INTEGER CHECK (part_count > 0),
    sequential INTEGER NOT NULL DEFAULT 0,
    etag_mode TEXT NOT NULL CHECK (etag_mode IN ('unknown', 'md5', 'opaque')),
    accepted_count INTEGER NOT NULL CHECK (accepted_count >= 0),
    accepted_bytes INTEGER NOT NULL CHECK (accepted_bytes >= 0),
    reported_count INTEGER NOT NULL CHECK (reported_count >= 0),
    restart_count INTEGER NOT NULL,
    attempt_count INTEGER NOT NULL,
    described INTEGER NOT NULL,
    bytes_sent INTEGER NOT NULL,
    remote_file_id TEXT,
    remote_name TEXT,
    remote_size_bytes INTEGER,
    remote_created_at_ns INTEGER,
    remote_mark_part_size_bytes INTEGER,
    remote_mark_md5 BLOB CHECK (length(remote_mark_md5) = 16),
    mark_part_size_bytes INTEGER,
    mark_md5 BLOB CHECK (length(mark_md5) = 16),
    receipt_sha256 BLOB CHECK (length(receipt_sha256) = 32),
    admitted_at_ns INTEGER NOT NULL,
    begin_intended_at_ns INTEGER,
    begun_at_ns INTEGER,
    complete_intended_at_ns INTEGER,
    completed_at_ns INTEGER,
    verified_at_ns INTEGER,
    receipted_at_ns INTEGER,
    ended_at_ns INTEGER,
    -- The word that status uses.
    state TEXT NOT NULL GENERATED ALWAYS AS (CASE
        WHEN stage = 'receipted' THEN 'completed'
        WHEN stage IN ('source-changed', 'abandoned') THEN 'abandoned'
        WHEN hold = 'parked' THEN 'parked'
        WHEN hold = 'waiting' THEN 'waiting'
        WHEN stage = 'queued' THEN 'queued'
        ELSE 'sending' END) VIRTUAL,
    -- The law, as far as SQL can say it.
    CHECK (hold <> 'waiting' OR retry_at_ns IS NOT NULL),
    CHECK (hold <> 'parked' OR park_reason IS NOT NULL),
    CHECK (stage <> 'beginning' OR begin_intended_at_ns IS NOT NULL),
    CHECK (stage NOT IN ('sending', 'completing')
        OR (remote_upload_id IS NOT NULL AND part_size_bytes IS NOT NULL AND part_count IS NOT NULL)),
    CHECK (stage <> 'completing'
        OR (complete_intended_at_ns IS NOT NULL AND accepted_count = part_count)),
    CHECK (stage NOT IN ('completed', 'verified', 'receipted')
        OR (remote_file_id IS NOT NULL AND completed_at_ns IS NOT NULL)),
    CHECK (stage NOT IN ('verified', 'receipted') OR verified_at_ns IS NOT NULL),
    CHECK (stage <> 'receipted' OR receipt_sha256 IS NOT NULL),
    CHECK (stage NOT IN ('receipted', 'source-changed', 'abandoned') OR hold = 'none'),
    CHECK (reported_count <= accepted_count)
) STRICT;

-- What is loaded at start, and listed first by status.
CREATE INDEX uploads_open ON uploads (id)
    WHERE stage NOT IN ('receipted', 'source-changed', 'abandoned');
CREATE INDEX uploads_ended ON uploads (ended_at_ns)
    WHERE stage IN ('receipted', 'source-changed', 'abandoned');
CREATE INDEX uploads_path ON uploads (path, drop_name);

-- A part has a row once the storage has accepted it.
CREATE TABLE parts (
    upload_id INTEGER NOT NULL REFERENCES uploads (id),
    number INTEGER NOT NULL CHECK (number > 0),
    md5 BLOB NOT NULL CHECK (length(md5) = 16),
    etag TEXT NOT NULL,
    reported INTEGER NOT NULL,
    accepted_at_ns INTEGER NOT NULL,
    PRIMARY KEY (upload_id, number)
) STRICT, WITHOUT ROWID;

-- Failed attempts, the newest of each upload.
CREATE TABLE attempts (
    id INTEGER PRIMARY KEY,
    upload_id INTEGER NOT NULL REFERENCES uploads (id),
    act TEXT NOT NULL,
    part INTEGER,
    kind TEXT NOT NULL,
    status INTEGER,
    request_id TEXT,
    message TEXT NOT NULL,
    at_ns INTEGER NOT NULL,
    retry_at_ns INTEGER
) STRICT;
CREATE INDEX attempts_upload ON attempts (upload_id, id);

-- Unfinished remote uploads that must be removed.
CREATE TABLE cleanups (
    destination TEXT NOT NULL,
    remote_upload_id TEXT NOT NULL,
    queued_at_ns INTEGER NOT NULL,
    retry_at_ns INTEGER,
    failure TEXT,
    done INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (destination, remote_upload_id)
) STRICT, WITHOUT ROWID;

-- Paths that are not uploaded, and why.
CREATE TABLE ignored (
    drop_name TEXT NOT NULL,
    path BLOB NOT NULL,
    reason TEXT NOT NULL,
    at_ns INTEGER NOT NULL,
    PRIMARY KEY (drop_name, path)
) STRICT, WITHOUT ROWID;

CREATE TABLE drop_health (
    drop_name TEXT PRIMARY KEY,
    directory TEXT NOT NULL,
    watch TEXT NOT NULL CHECK (watch IN ('events', 'scanning', 'deaf')),
    reason TEXT,
    last_full_scan_at_ns INTEGER,
    settling_count INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE destination_health (
    destination TEXT PRIMARY KEY,
    platform TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('ok', 'throttled', 'unreachable', 'halted')),
    reason TEXT,
    since_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The daemon that last ran on this state.
CREATE TABLE daemon (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    pid INTEGER NOT NULL,
    version TEXT NOT NULL,
    started_at_ns INTEGER NOT NULL,
    rate_bytes_per_second INTEGER NOT NULL DEFAULT 0,
    rate_at_ns INTEGER NOT NULL DEFAULT 0,
    bytes_sent_total INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Counts kept, not counted: one row for each state that status shows.
CREATE TABLE tallies (
    state TEXT PRIMARY KEY,
    upload_count INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    accepted_bytes INTEGER NOT NULL,
    bytes_sent INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO tallies (state, upload_count, size_bytes, accepted_bytes, bytes_sent)
VALUES ('queued', 0, 0, 0, 0), ('sending', 0, 0, 0, 0), ('waiting', 0, 0, 0, 0),
    ('completed', 0, 0, 0, 0), ('parked', 0, 0, 0, 0), ('abandoned', 0, 0, 0, 0);

CREATE TRIGGER uploads_tally_insert AFTER INSERT ON uploads BEGIN
    UPDATE tallies SET upload_count = upload_count + 1, size_bytes = size_bytes + NEW.size_bytes,
        accepted_bytes = accepted_bytes + NEW.accepted_bytes,
        bytes_sent = bytes_sent + NEW.bytes_sent
    WHERE state = NEW.state;
END;

CREATE TRIGGER uploads_tally_update AFTER UPDATE OF stage, hold, accepted_bytes, bytes_sent ON uploads
BEGIN
    UPDATE tallies SET upload_count = upload_count - 1, size_bytes = size_bytes - OLD.size_bytes,
        accepted_bytes = accepted_bytes - OLD.accepted_bytes,
        bytes_sent = bytes_sent - OLD.bytes_sent
    WHERE state = OLD.state;
    UPDATE tallies SET upload_count = upload_count + 1, size_bytes = size_bytes + NEW.size_bytes,
        accepted_bytes = accepted_bytes + NEW.accepted_bytes,
        bytes_sent = bytes_sent + NEW.bytes_sent
    WHERE state = NEW.state;
END;
