-- When the file was last changed in any way, in nanoseconds since 1970: unlike the time of its last
-- modification, nobody can set it. NULL where the file system has none, and in rows from before.
ALTER TABLE uploads ADD COLUMN ctime_ns INTEGER;
