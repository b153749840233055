-- Drops whose end a platform wants to be told: one row for each at each destination.
CREATE TABLE drops (
    destination TEXT NOT NULL,
    drop_name TEXT NOT NULL,
    -- The drop's own name: its top-level directory, or file.
    name TEXT NOT NULL,
    opened_at_ns INTEGER NOT NULL,
    finished_at_ns INTEGER,
    PRIMARY KEY (destination, drop_name, name)
) STRICT, WITHOUT ROWID;

CREATE INDEX drops_open ON drops (destination) WHERE finished_at_ns IS NULL;
