-- A file that was moved after its upload: the upload under its old name, whose version it is, and when
-- the file was last changed in any way as it stands under its new one.
ALTER TABLE ignored ADD COLUMN moved_upload INTEGER REFERENCES uploads (id);
ALTER TABLE ignored ADD COLUMN ctime_ns INTEGER;
