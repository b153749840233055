-- The unit an upload belongs to: the path of its drop; NULL where the file is a drop of its own.
ALTER TABLE uploads ADD COLUMN unit BLOB;
-- The receipt of the unit, sent to say that all of it is there.
ALTER TABLE uploads ADD COLUMN sentinel INTEGER NOT NULL DEFAULT 0;
-- Digests of the whole file, where the receipt wants them.
ALTER TABLE uploads ADD COLUMN digested INTEGER NOT NULL DEFAULT 0;
ALTER TABLE uploads ADD COLUMN whole_md5 BLOB CHECK (length(whole_md5) = 16);
ALTER TABLE uploads ADD COLUMN whole_sha256 BLOB CHECK (length(whole_sha256) = 32);
CREATE INDEX uploads_unit ON uploads (drop_name, unit) WHERE unit IS NOT NULL;
CREATE INDEX uploads_inode ON uploads (inode, drop_name);

-- Before, every directory at the top was a unit.
UPDATE uploads SET unit = substr(path, 1, instr(path, x'2f') - 1) WHERE instr(path, x'2f') > 0;

-- Drops as units: one row for each directory that is a drop.
CREATE TABLE units (
    drop_name TEXT NOT NULL,
    unit BLOB NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'closed', 'completed', 'gone')),
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
    PRIMARY KEY (drop_name, unit),
    CHECK (state <> 'completed' OR (completed_at_ns IS NOT NULL AND receipt_sha256 IS NOT NULL))
) STRICT, WITHOUT ROWID;

-- What a unit says of itself; the samples of its sheet are words named "samples", one row each.
CREATE TABLE unit_words (
    drop_name TEXT NOT NULL,
    unit BLOB NOT NULL,
    word TEXT NOT NULL,
    number INTEGER NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (drop_name, unit, word, number)
) STRICT, WITHOUT ROWID;

-- Sources that are disposed of when their time has come.
CREATE TABLE disposals (
    drop_name TEXT NOT NULL,
    unit BLOB NOT NULL,
    is_file INTEGER NOT NULL,
    due_at_ns INTEGER NOT NULL,
    intended_at_ns INTEGER,
    retry_at_ns INTEGER,
    failure TEXT,
    ended_at_ns INTEGER,
    is_done INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (drop_name, unit)
) STRICT, WITHOUT ROWID;
CREATE INDEX disposals_open ON disposals (drop_name) WHERE ended_at_ns IS NULL;

-- Counts of each unit's uploads at each destination: kept, not counted.
CREATE TABLE unit_tallies (
    drop_name TEXT NOT NULL,
    unit BLOB NOT NULL,
    destination TEXT NOT NULL,
    upload_count INTEGER NOT NULL,
    completed_count INTEGER NOT NULL,
    parked_count INTEGER NOT NULL,
    newest_id INTEGER NOT NULL,
    PRIMARY KEY (drop_name, unit, destination)
) STRICT, WITHOUT ROWID;

INSERT INTO unit_tallies
SELECT drop_name, ifnull(unit, x''), destination, count(*), sum(state = 'completed'),
    sum(state = 'parked'), max(id)
FROM uploads WHERE state <> 'abandoned' GROUP BY 1, 2, 3;

CREATE TRIGGER uploads_unit_insert AFTER INSERT ON uploads WHEN NEW.sentinel = 0 BEGIN
    INSERT INTO unit_tallies VALUES (NEW.drop_name, ifnull(NEW.unit, x''), NEW.destination, 1, 0,
        NEW.state = 'parked', NEW.id)
    ON CONFLICT DO UPDATE SET upload_count = upload_count + 1,
        parked_count = parked_count + (NEW.state = 'parked'), newest_id = NEW.id;
END;

CREATE TRIGGER uploads_unit_update AFTER UPDATE OF stage, hold ON uploads
WHEN NEW.sentinel = 0 AND NEW.state <> OLD.state BEGIN
    UPDATE unit_tallies SET
        upload_count = upload_count + (OLD.state = 'abandoned') - (NEW.state = 'abandoned'),
        completed_count = completed_count + (NEW.state = 'completed') - (OLD.state = 'completed'),
        parked_count = parked_count + (NEW.state = 'parked') - (OLD.state = 'parked')
    WHERE drop_name = NEW.drop_name AND unit = ifnull(NEW.unit, x'')
        AND destination = NEW.destination;
END;
