-- Which directory a drop directory was when its files were last seen: an empty one that is another is
-- the mount point of a share that is not mounted, not a directory whose files were deleted.
ALTER TABLE drop_health ADD COLUMN root_device INTEGER;
ALTER TABLE drop_health ADD COLUMN root_inode INTEGER;
