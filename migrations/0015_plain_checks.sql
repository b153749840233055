-- SQLite makes a table of every list of more than two words, for every row that is written, before it
-- compares with it. Spelled out, the same checks cost next to nothing.
--
-- What is checked stays as it is, and so does every row: the text alone changes, as SQLite's manual has
-- it done ("Making Other Kinds Of Table Schema Changes").
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(replace(replace(replace(replace(replace(sql,
    'stage IN (''queued'', ''beginning'', ''sending'', ''completing'',
        ''completed'', ''verified'', ''receipted'', ''source-changed'', ''abandoned'')',
    'stage = ''queued'' OR stage = ''beginning'' OR stage = ''sending'' OR stage = ''completing''
        OR stage = ''completed'' OR stage = ''verified'' OR stage = ''receipted''
        OR stage = ''source-changed'' OR stage = ''abandoned'''),
    'hold IN (''none'', ''waiting'', ''parked'')',
    'hold = ''none'' OR hold = ''waiting'' OR hold = ''parked'''),
    'etag_mode IN (''unknown'', ''md5'', ''opaque'')',
    'etag_mode = ''unknown'' OR etag_mode = ''md5'' OR etag_mode = ''opaque'''),
    'stage NOT IN (''completed'', ''verified'', ''receipted'')',
    '(stage <> ''completed'' AND stage <> ''verified'' AND stage <> ''receipted'')'),
    'stage NOT IN (''receipted'', ''source-changed'', ''abandoned'')',
    '(stage <> ''receipted'' AND stage <> ''source-changed'' AND stage <> ''abandoned'')'),
    'export_state IN (''intended'', ''started'', ''failed'', ''completed'')',
    'export_state = ''intended'' OR export_state = ''started'' OR export_state = ''failed''
        OR export_state = ''completed''')
WHERE type = 'table' AND name = 'uploads';
PRAGMA writable_schema = RESET;

DROP INDEX uploads_open;
DROP INDEX uploads_ended;
DROP INDEX uploads_unpruned;
CREATE INDEX uploads_open ON uploads (id)
    WHERE stage <> 'receipted' AND stage <> 'source-changed' AND stage <> 'abandoned';
CREATE INDEX uploads_ended ON uploads (ended_at_ns)
    WHERE stage = 'receipted' OR stage = 'source-changed' OR stage = 'abandoned';
CREATE INDEX uploads_unpruned ON uploads (ended_at_ns)
    WHERE (stage = 'receipted' OR stage = 'source-changed' OR stage = 'abandoned')
        AND pruned_at_ns IS NULL;
