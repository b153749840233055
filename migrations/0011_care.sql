-- When the parts and failed attempts of an ended upload were removed, for it ended long ago.
ALTER TABLE uploads ADD COLUMN pruned_at_ns INTEGER;
CREATE INDEX uploads_unpruned ON uploads (ended_at_ns)
    WHERE stage IN ('receipted', 'source-changed', 'abandoned') AND pruned_at_ns IS NULL;

-- How the database itself is: its last copy, its last check.
CREATE TABLE care (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    backup_at_ns INTEGER,
    -- Why the last copy failed; NULL when it did not.
    backup_failure TEXT,
    checked_at_ns INTEGER,
    is_sound INTEGER CHECK (is_sound IN (0, 1)),
    -- What the check found.
    detail TEXT
) STRICT;
INSERT INTO care (id) VALUES (1);
