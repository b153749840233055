-- What operators ordered and has not been taken back or carried out.
CREATE TABLE orders (
    standing TEXT NOT NULL CHECK (standing IN ('paused', 'given-up')),
    scope TEXT NOT NULL CHECK (scope IN ('all', 'destination', 'drop', 'unit', 'upload')),
    -- The name of the destination or drop directory, or the upload's id; empty for all.
    name TEXT NOT NULL,
    -- The unit's path; empty for other scopes.
    unit BLOB NOT NULL,
    at_ns INTEGER NOT NULL,
    PRIMARY KEY (standing, scope, name, unit)
) STRICT, WITHOUT ROWID;

-- A rate that was ordered, in place of what is configured.
CREATE TABLE ordered_bandwidth (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    -- Bytes a second; none is unlimited, zero stops.
    bytes_per_second INTEGER CHECK (bytes_per_second >= 0),
    at_ns INTEGER NOT NULL
) STRICT;

-- Uploads of a unit that an operator gave up: it is not all there.
ALTER TABLE units ADD COLUMN given_up_count INTEGER NOT NULL DEFAULT 0;
