-- How many paths are not uploaded: kept, not counted, for a run may have as many of them as files.
CREATE TABLE ignored_tally (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    path_count INTEGER NOT NULL CHECK (path_count >= 0)
) STRICT;
INSERT INTO ignored_tally SELECT 1, count(*) FROM ignored;

CREATE TRIGGER ignored_tally_insert AFTER INSERT ON ignored BEGIN
    UPDATE ignored_tally SET path_count = path_count + 1;
END;

CREATE TRIGGER ignored_tally_delete AFTER DELETE ON ignored BEGIN
    UPDATE ignored_tally SET path_count = path_count - 1;
END;
