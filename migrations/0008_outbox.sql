-- What people are told: one row for each fact and each channel it goes by.
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY,
    channel TEXT NOT NULL,
    kind TEXT NOT NULL,
    -- What it is about: a unit's name, an upload's id, a drop directory, a destination.
    subject TEXT NOT NULL,
    -- It takes back an earlier one of its kind and subject: heard again, ok again.
    is_over INTEGER NOT NULL DEFAULT 0 CHECK (is_over IN (0, 1)),
    -- The JSON that is sent, rendered once.
    body TEXT NOT NULL,
    created_at_ns INTEGER NOT NULL,
    -- When it is tried, for the first time or again.
    retry_at_ns INTEGER NOT NULL,
    attempt_count INTEGER NOT NULL DEFAULT 0,
    -- Why the last try failed.
    failure TEXT,
    sent_at_ns INTEGER
) STRICT;
CREATE INDEX outbox_unsent ON outbox (id) WHERE sent_at_ns IS NULL;
-- What people were last told of each trouble.
CREATE INDEX outbox_subject ON outbox (kind, subject, id);
