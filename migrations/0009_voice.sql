-- Since when the receiver has refused a notice, and when it was given up.
ALTER TABLE outbox ADD COLUMN refused_at_ns INTEGER;
ALTER TABLE outbox ADD COLUMN given_up_at_ns INTEGER;
-- The notice that tells of this one too, when there was too much to be told one by one.
ALTER TABLE outbox ADD COLUMN folded_into INTEGER;
-- What waits: neither told, nor given up, nor told of by another.
DROP INDEX outbox_unsent;
CREATE INDEX outbox_unsent ON outbox (id)
    WHERE sent_at_ns IS NULL AND given_up_at_ns IS NULL AND folded_into IS NULL;
CREATE INDEX outbox_sent ON outbox (sent_at_ns);
