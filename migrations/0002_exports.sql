-- The export of an upload's file to an attached volume, where one is configured.
ALTER TABLE uploads ADD COLUMN export_volume TEXT;
ALTER TABLE uploads ADD COLUMN export_location TEXT;
ALTER TABLE uploads ADD COLUMN export_state TEXT
    CHECK (export_state IN ('intended', 'started', 'failed', 'completed'));
ALTER TABLE uploads ADD COLUMN export_job TEXT;
ALTER TABLE uploads ADD COLUMN export_error TEXT;
ALTER TABLE uploads ADD COLUMN export_intended_at_ns INTEGER;
ALTER TABLE uploads ADD COLUMN export_started_at_ns INTEGER;
ALTER TABLE uploads ADD COLUMN exported_at_ns INTEGER;

-- What `exports` lists.
CREATE INDEX uploads_exports ON uploads (id) WHERE export_state IS NOT NULL;
