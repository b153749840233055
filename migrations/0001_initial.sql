-- One row per upload: its frozen plan, and how far it is. Times are Unix nanoseconds.
--
-- Lists of words are spelled out with OR: SQLite builds a table for an IN list of more than two, for
-- every row that is written.
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
    stage TEXT NOT NULL CHECK (stage = 'queued' OR stage = 'beginning' OR stage = 'sending'
        OR stage = 'completing' OR stage = 'completed' OR stage = 'verified' OR stage = 'receipted'
        OR stage = 'source-changed' OR stage = 'abandoned'),
    hold TEXT NOT NULL CHECK (hold = 'none' OR hold = 'waiting' OR hold = 'parked'),
    retry_at_ns INTEGER,
    park_reason TEXT,
    park_detail TEXT,
    last_error TEXT,
    remote_upload_id TEXT,
    part_size_bytes INTEGER CHECK (part_size_bytes > 0),
    part_count INTEGER CHECK (part_count > 0),
    sequential INTEGER NOT NULL DEFAULT 0,
    etag_mode TEXT NOT NULL CHECK (etag_mode = 'unknown' OR etag_mode = 'md5' OR etag_mode = 'opaque'
        OR etag_mode = 'read-back'),
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
    -- The export of the file to an attached volume, where one is configured.
    export_volume TEXT,
    export_location TEXT,
    export_state TEXT CHECK (export_state = 'intended' OR export_state = 'started'
        OR export_state = 'failed' OR export_state = 'completed'),
    export_job TEXT,
    export_error TEXT,
    export_intended_at_ns INTEGER,
    export_started_at_ns INTEGER,
    exported_at_ns INTEGER,
    -- The path of the run that the file belongs to; NULL where the file is a run of its own.
    run BLOB,
    -- The receipt of the run, sent to say that all of it is there.
    sentinel INTEGER NOT NULL DEFAULT 0,
    -- Digests of the whole file, where the receipt wants them.
    digested INTEGER NOT NULL DEFAULT 0,
    whole_md5 BLOB CHECK (length(whole_md5) = 16),
    whole_sha256 BLOB CHECK (length(whole_sha256) = 32),
    -- When the inode last changed; programs cannot set it. NULL where the file system has none.
    ctime_ns INTEGER,
    -- When the parts and failed attempts of an upload that ended long ago were removed.
    pruned_at_ns INTEGER,
    -- Of a file that was handed in: whose it was, and a digest of its file system. Nothing else is read
    -- under its path.
    source_owner INTEGER CHECK (source_owner >= 0),
    source_file_system INTEGER,
    -- Bytes in flight as they were counted last; what a kill leaves here was sent.
    bytes_in_flight INTEGER NOT NULL DEFAULT 0 CHECK (bytes_in_flight >= 0),
    -- Which directory the drop directory was that the file was seen in.
    root TEXT,
    -- The target that it goes to, or was completed at.
    target_id INTEGER NOT NULL,
    -- The upload that holds the place which this one is to have; NULL when it waits for none.
    waits_for INTEGER,
    -- What the storage told versions of the file apart by when it was verified.
    remote_etag TEXT,
    -- Where the line is that is its receipt: in which ledger, which it is, at which byte it begins.
    ledger_id INTEGER,
    ledger_seq INTEGER CHECK (ledger_seq > 0),
    ledger_offset INTEGER CHECK (ledger_offset >= 0),
    -- Which version of the object it is, where the storage keeps several.
    remote_version_id TEXT,
    -- The upload whose file this one replaces at its place, and which file that is.
    supersedes INTEGER,
    superseded_file_id TEXT,
    superseded_etag TEXT,
    -- The rename that comes next, where the platform replaces no file in one step.
    superseding_step TEXT CHECK (superseding_step = 'beside' OR superseding_step = 'aside'
        OR superseding_step = 'in' OR superseding_step = 'alone' OR superseding_step = 'out'),
    -- Its source was to be disposed of, or its path was seen empty: what comes under its path does not
    -- replace what was sent.
    source_was_absent INTEGER NOT NULL DEFAULT 0,
    -- Since when it is tried in vain; NULL while it goes on.
    failing_since_ns INTEGER,
    -- What an operator decided about its name, which is taken.
    name_decision TEXT CHECK (name_decision = 'overwrite' OR name_decision = 'keep-both'),
    -- The kind of the failure that last_error tells of, of a closed list.
    last_error_kind TEXT,
    -- The law, as far as SQL can say it.
    CHECK ((source_owner IS NULL) = (source_file_system IS NULL)),
    CHECK ((supersedes IS NULL) = (superseded_file_id IS NULL)),
    CHECK (superseding_step IS NULL OR (supersedes IS NOT NULL AND stage <> 'receipted')),
    CHECK (hold <> 'waiting' OR retry_at_ns IS NOT NULL),
    CHECK (hold <> 'parked' OR park_reason IS NOT NULL),
    CHECK (stage <> 'beginning' OR begin_intended_at_ns IS NOT NULL),
    CHECK (stage NOT IN ('sending', 'completing')
        OR (remote_upload_id IS NOT NULL AND part_size_bytes IS NOT NULL AND part_count IS NOT NULL)),
    CHECK (stage <> 'completing'
        OR (complete_intended_at_ns IS NOT NULL AND accepted_count = part_count)),
    CHECK ((stage <> 'completed' AND stage <> 'verified' AND stage <> 'receipted')
        OR (remote_file_id IS NOT NULL AND completed_at_ns IS NOT NULL)),
    CHECK (stage NOT IN ('verified', 'receipted') OR verified_at_ns IS NOT NULL),
    CHECK (stage <> 'receipted' OR (receipt_sha256 IS NOT NULL AND ledger_id IS NOT NULL
        AND ledger_seq IS NOT NULL AND ledger_offset IS NOT NULL)),
    CHECK ((stage <> 'receipted' AND stage <> 'source-changed' AND stage <> 'abandoned')
        OR hold = 'none'),
    CHECK (reported_count <= accepted_count)
) STRICT;

-- What is loaded at start, and listed first by status.
CREATE INDEX uploads_open ON uploads (id)
    WHERE stage <> 'receipted' AND stage <> 'source-changed' AND stage <> 'abandoned';
CREATE INDEX uploads_failing ON uploads (failing_since_ns) WHERE failing_since_ns IS NOT NULL;
CREATE INDEX uploads_in_flight ON uploads (id) WHERE bytes_in_flight > 0;
CREATE INDEX uploads_ended ON uploads (ended_at_ns)
    WHERE stage = 'receipted' OR stage = 'source-changed' OR stage = 'abandoned';
CREATE INDEX uploads_unpruned ON uploads (ended_at_ns)
    WHERE (stage = 'receipted' OR stage = 'source-changed' OR stage = 'abandoned')
        AND pruned_at_ns IS NULL;
CREATE INDEX uploads_path ON uploads (path, drop_name);
-- What was sent of files: read for every file of every scan, from this index alone.
CREATE INDEX uploads_sent ON uploads
    (drop_name, path, destination, target_id, device, inode, size_bytes, mtime_ns, ctime_ns,
     stage, sentinel)
    WHERE sentinel = 0 AND (stage = 'receipted' OR stage = 'abandoned');
CREATE INDEX uploads_inode ON uploads (inode, drop_name);
CREATE INDEX uploads_run ON uploads (drop_name, run) WHERE run IS NOT NULL;
-- What `exports` lists.
CREATE INDEX uploads_exports ON uploads (id) WHERE export_state IS NOT NULL;

-- A part has a row once the storage has accepted it.
CREATE TABLE parts (
    upload_id INTEGER NOT NULL REFERENCES uploads (id),
    number INTEGER NOT NULL CHECK (number > 0),
    md5 BLOB NOT NULL CHECK (length(md5) = 16),
    etag TEXT NOT NULL,
    reported INTEGER NOT NULL,
    accepted_at_ns INTEGER NOT NULL,
    -- What is to be reported instead of the ETag; gone once it is.
    note TEXT CHECK (length(note) <= 4096),
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

-- How many attempts failed since the database was made. Kinds are a closed list.
CREATE TABLE failures (
    destination TEXT NOT NULL,
    kind TEXT NOT NULL,
    failure_count INTEGER NOT NULL CHECK (failure_count > 0),
    PRIMARY KEY (destination, kind)
) STRICT, WITHOUT ROWID;

-- Unfinished remote uploads that must be removed.
CREATE TABLE cleanups (
    destination TEXT NOT NULL,
    target_id INTEGER NOT NULL,
    remote_upload_id TEXT NOT NULL,
    queued_at_ns INTEGER NOT NULL,
    retry_at_ns INTEGER,
    failure TEXT,
    done INTEGER NOT NULL DEFAULT 0,
    -- The upload that gave it up for another one: it is kept until that is begun.
    after_upload INTEGER,
    PRIMARY KEY (destination, target_id, remote_upload_id)
) STRICT, WITHOUT ROWID;

-- Paths that are not uploaded, and why.
CREATE TABLE ignored (
    drop_name TEXT NOT NULL,
    path BLOB NOT NULL,
    reason TEXT NOT NULL,
    at_ns INTEGER NOT NULL,
    -- A file that was moved after its upload: the upload under its old name, and the ctime of the file
    -- under its new one.
    moved_upload INTEGER REFERENCES uploads (id),
    ctime_ns INTEGER,
    PRIMARY KEY (drop_name, path)
) STRICT, WITHOUT ROWID;
CREATE INDEX ignored_newest ON ignored (at_ns DESC);

-- How many paths are not uploaded: kept, not counted, for a run may have as many of them as files.
CREATE TABLE ignored_tally (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    path_count INTEGER NOT NULL CHECK (path_count >= 0)
) STRICT;
INSERT INTO ignored_tally VALUES (1, 0);

CREATE TRIGGER ignored_tally_insert AFTER INSERT ON ignored BEGIN
    UPDATE ignored_tally SET path_count = path_count + 1;
END;

CREATE TRIGGER ignored_tally_delete AFTER DELETE ON ignored BEGIN
    UPDATE ignored_tally SET path_count = path_count - 1;
END;

-- Which directory a drop directory's name stood for when files were admitted: from an upload on.
CREATE TABLE drop_directories (
    drop_name TEXT NOT NULL,
    first_upload INTEGER NOT NULL,
    directory TEXT NOT NULL,
    PRIMARY KEY (drop_name, first_upload)
) STRICT, WITHOUT ROWID;

CREATE TABLE drop_health (
    drop_name TEXT PRIMARY KEY,
    directory TEXT NOT NULL,
    watch TEXT NOT NULL CHECK (watch IN ('events', 'scanning', 'deaf')),
    reason TEXT,
    last_full_scan_at_ns INTEGER,
    settling_count INTEGER NOT NULL,
    -- Which directory it has to be: mount, path inside of it, inode. None before any file was seen.
    root TEXT,
    -- It stands in the configuration; one that was taken out keeps its row, for it may come back.
    is_configured INTEGER NOT NULL DEFAULT 1
) STRICT, WITHOUT ROWID;

CREATE TABLE destination_health (
    destination TEXT PRIMARY KEY,
    platform TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('unknown', 'ok', 'throttled', 'unreachable', 'halted')),
    reason TEXT,
    since_ns INTEGER NOT NULL,
    next_try_at_ns INTEGER,
    -- It stands in the configuration, as of drop directories.
    is_configured INTEGER NOT NULL DEFAULT 1,
    -- Its clock minus ours, as its answers say.
    clock_behind_ns INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

-- What the answers of destinations have shown of a target, for good.
CREATE TABLE target_learned (
    target_id INTEGER NOT NULL,
    what TEXT NOT NULL CHECK (what IN ('etags-are-md5s', 'etags-are-no-digests', 'final-digests-differ', 'no-conditions', 'no-tags',
        'no-object-size', 'no-content-md5', 'no-etags', 'no-part-lists', 'works')),
    detail TEXT NOT NULL,
    at_ns INTEGER NOT NULL,
    PRIMARY KEY (target_id, what)
) STRICT, WITHOUT ROWID;

-- The daemon that last ran on this state.
CREATE TABLE daemon (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    pid INTEGER NOT NULL,
    version TEXT NOT NULL,
    started_at_ns INTEGER NOT NULL,
    bytes_sent_total INTEGER NOT NULL DEFAULT 0,
    -- Which process it is: its id, when it started, in which namespace of ids.
    process TEXT,
    -- What is tried in vain for longer needs a person: [notify] stuck_after.
    stuck_after_ns INTEGER NOT NULL DEFAULT 3600000000000
) STRICT;

-- Counts that the writer keeps (`store/writer/tallies.rs`): one row for each state that status shows.
CREATE TABLE tallies (
    state TEXT PRIMARY KEY,
    upload_count INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    accepted_bytes INTEGER NOT NULL,
    bytes_sent INTEGER NOT NULL,
    -- Summed up for each upload: one that was found there, with no byte sent, hides none of another.
    bytes_sent_again INTEGER NOT NULL DEFAULT 0,
    bytes_in_flight INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

INSERT INTO tallies (state, upload_count, size_bytes, accepted_bytes, bytes_sent)
VALUES ('queued', 0, 0, 0, 0), ('sending', 0, 0, 0, 0), ('waiting', 0, 0, 0, 0),
    ('completed', 0, 0, 0, 0), ('parked', 0, 0, 0, 0), ('abandoned', 0, 0, 0, 0);

-- Runs whose end a platform wants to be told: one row for each at each destination.
CREATE TABLE run_ends (
    destination TEXT NOT NULL,
    drop_name TEXT NOT NULL,
    -- The run's own name: its top-level directory, or file.
    name TEXT NOT NULL,
    opened_at_ns INTEGER NOT NULL,
    finished_at_ns INTEGER,
    PRIMARY KEY (destination, drop_name, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX run_ends_open ON run_ends (destination) WHERE finished_at_ns IS NULL;

-- One row for each directory that is a run.
CREATE TABLE runs (
    drop_name TEXT NOT NULL,
    run BLOB NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'closed', 'completed', 'gone', 'skipped')),
    reason TEXT,
    file_count INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    closed_file_count INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    opened_at_ns INTEGER NOT NULL,
    closed_at_ns INTEGER,
    completed_at_ns INTEGER,
    receipt_sha256 BLOB CHECK (length(receipt_sha256) = 32),
    outcome TEXT,
    outcome_is_success INTEGER,
    -- Uploads of it that an operator gave up: it is not all there.
    given_up_count INTEGER NOT NULL DEFAULT 0,
    -- Where the line is that says that it is completed; its digest is receipt_sha256.
    ledger TEXT,
    ledger_seq INTEGER,
    ledger_offset INTEGER,
    -- The number of the first ledger for lines of the run that is there, and of the last one that has a line
    -- of any run of its name; zero when none has.
    first_ledger INTEGER NOT NULL DEFAULT 1 CHECK (first_ledger > 0),
    last_ledger INTEGER NOT NULL DEFAULT 0 CHECK (last_ledger >= 0),
    -- Who closed it by hand, and what it waited for then: one marker or file a line.
    closed_by TEXT,
    closed_without TEXT,
    -- The name of its directory, where it was renamed since it was first seen.
    name_now BLOB,
    -- It is open for longer than runs of its kind are.
    is_stale INTEGER NOT NULL DEFAULT 0,
    -- The code of the reason.
    reason_code TEXT,
    PRIMARY KEY (drop_name, run),
    CHECK ((reason IS NULL) = (reason_code IS NULL)),
    CHECK (state <> 'completed' OR (completed_at_ns IS NOT NULL AND receipt_sha256 IS NOT NULL)),
    CHECK ((receipt_sha256 IS NULL) = (ledger IS NULL)),
    CHECK ((closed_by IS NULL) = (closed_without IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX runs_stale ON runs (drop_name) WHERE is_stale = 1;
CREATE INDEX runs_newest ON runs (opened_at_ns DESC, run);

-- What a run says of itself; the samples of its sheet are words named "samples", one row each.
CREATE TABLE run_words (
    drop_name TEXT NOT NULL,
    run BLOB NOT NULL,
    word TEXT NOT NULL,
    number INTEGER NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (drop_name, run, word, number)
) STRICT, WITHOUT ROWID;

-- Sources that are disposed of when their time has come.
CREATE TABLE disposals (
    drop_name TEXT NOT NULL,
    run BLOB NOT NULL,
    is_file INTEGER NOT NULL,
    due_at_ns INTEGER NOT NULL,
    intended_at_ns INTEGER,
    retry_at_ns INTEGER,
    failure TEXT,
    ended_at_ns INTEGER,
    is_done INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (drop_name, run)
) STRICT, WITHOUT ROWID;
CREATE INDEX disposals_open ON disposals (drop_name) WHERE ended_at_ns IS NULL;

-- Counts of each run's uploads at each destination, kept by the writer.
CREATE TABLE run_tallies (
    drop_name TEXT NOT NULL,
    run BLOB NOT NULL,
    destination TEXT NOT NULL,
    upload_count INTEGER NOT NULL,
    completed_count INTEGER NOT NULL,
    parked_count INTEGER NOT NULL,
    newest_id INTEGER NOT NULL,
    -- Sums over the uploads that are counted.
    size_bytes INTEGER NOT NULL,
    accepted_bytes INTEGER NOT NULL,
    -- When the last upload of it was admitted, begun, completed or had its receipt.
    last_activity_at_ns INTEGER NOT NULL,
    PRIMARY KEY (drop_name, run, destination)
) STRICT, WITHOUT ROWID;

-- Notices to people: one row for each fact and each channel it goes by.
CREATE TABLE notices (
    id INTEGER PRIMARY KEY,
    channel TEXT NOT NULL,
    kind TEXT NOT NULL,
    -- Which notices belong together: what failed for one reason, one condition, one completion.
    group_key TEXT NOT NULL,
    -- It says that the condition of its group is over.
    is_over INTEGER NOT NULL DEFAULT 0 CHECK (is_over IN (0, 1)),
    -- What it says but its list, as JSON: read by the program alone.
    facts TEXT NOT NULL,
    created_at_ns INTEGER NOT NULL,
    -- When it is tried, for the first time or again.
    retry_at_ns INTEGER NOT NULL,
    attempt_count INTEGER NOT NULL DEFAULT 0,
    -- Why the last try failed.
    failure TEXT,
    sent_at_ns INTEGER,
    -- Since when the receiver has refused it, and when it was given up.
    refused_at_ns INTEGER,
    given_up_at_ns INTEGER
) STRICT;
-- What waits: neither sent nor given up.
CREATE INDEX notices_unsent ON notices (id) WHERE sent_at_ns IS NULL AND given_up_at_ns IS NULL;
-- The last notice of each group.
CREATE INDEX notices_group ON notices (group_key, id);
CREATE INDEX notices_given_up ON notices (id) WHERE given_up_at_ns IS NOT NULL;

-- What a notice lists: files that failed, runs that were completed.
CREATE TABLE notice_items (
    notice_id INTEGER NOT NULL REFERENCES notices (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    -- The upload, of a file that failed.
    upload_id INTEGER,
    drop_name TEXT NOT NULL,
    -- A path, as people read it; empty for all files together that are runs of their own.
    name TEXT NOT NULL,
    file_count INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    PRIMARY KEY (notice_id, position)
) STRICT, WITHOUT ROWID;

-- What operators ordered and has not been taken back or carried out.
CREATE TABLE orders (
    standing TEXT NOT NULL CHECK (standing IN ('paused', 'given-up')),
    scope TEXT NOT NULL CHECK (scope IN ('all', 'destination', 'drop', 'run', 'upload')),
    -- The name of the destination or drop directory, or the upload's id; empty for all.
    name TEXT NOT NULL,
    -- The run's path; empty for other scopes.
    run BLOB NOT NULL,
    at_ns INTEGER NOT NULL,
    PRIMARY KEY (standing, scope, name, run)
) STRICT, WITHOUT ROWID;

-- A rate that was ordered, in place of what is configured.
CREATE TABLE ordered_bandwidth (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    -- Bytes a second; none is unlimited, zero stops.
    bytes_per_second INTEGER CHECK (bytes_per_second >= 0),
    at_ns INTEGER NOT NULL
) STRICT;

-- How the database itself is: its last copy, its last check.
CREATE TABLE care (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    backup_at_ns INTEGER,
    -- Why the last copy failed; NULL when it did not.
    backup_failure TEXT,
    checked_at_ns INTEGER,
    is_sound INTEGER CHECK (is_sound IN (0, 1)),
    -- What the check found.
    detail TEXT,
    -- An operator had the state begun without a database, beside receipts or copies of one.
    is_new_state INTEGER NOT NULL DEFAULT 0 CHECK (is_new_state IN (0, 1)),
    -- Uploads up to this id were known to another database of this state: no new one gets such an id.
    ids_above INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO care (id) VALUES (1);

-- What a destination is: its target, not its name.
CREATE TABLE targets (
    id INTEGER PRIMARY KEY,
    platform TEXT NOT NULL,
    base_url TEXT NOT NULL,
    -- The bucket, project or AppResult.
    container TEXT NOT NULL,
    UNIQUE (platform, base_url, container)
) STRICT;

-- The targets that each destination has: its own first, then those that are declared to be the same.
CREATE TABLE destination_targets (
    destination TEXT NOT NULL,
    target_id INTEGER NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (destination, target_id)
) STRICT, WITHOUT ROWID;

-- For which destinations uploads at former targets do not count as sent: their sources are sent again.
CREATE TABLE resends (
    destination TEXT PRIMARY KEY,
    target_id INTEGER NOT NULL,
    -- Only uploads before this one do not count.
    before_id INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Which source of ours made or found the file that stands at a place.
CREATE TABLE places (
    target_id INTEGER NOT NULL,
    folder TEXT NOT NULL,
    name TEXT NOT NULL,
    directory TEXT NOT NULL,
    path BLOB NOT NULL,
    upload_id INTEGER NOT NULL,
    PRIMARY KEY (target_id, folder, name, directory, path)
) STRICT, WITHOUT ROWID;

-- Completed uploads of each destination at each target, counted by the writer.
CREATE TABLE target_tallies (
    destination TEXT NOT NULL,
    target_id INTEGER NOT NULL,
    completed_count INTEGER NOT NULL,
    PRIMARY KEY (destination, target_id)
) STRICT, WITHOUT ROWID;

-- Ledgers of receipts: how far each is known to be durable.
CREATE TABLE ledgers (
    id INTEGER PRIMARY KEY,
    -- Its path below the directory of receipts.
    name TEXT NOT NULL UNIQUE,
    length_bytes INTEGER NOT NULL CHECK (length_bytes >= 0),
    line_count INTEGER NOT NULL CHECK (line_count >= 0),
    head_sha256 BLOB NOT NULL CHECK (length(head_sha256) = 32),
    -- Why it is damaged; NULL when it is not known to be.
    damage TEXT
) STRICT;
CREATE INDEX ledgers_damaged ON ledgers (id) WHERE damage IS NOT NULL;
