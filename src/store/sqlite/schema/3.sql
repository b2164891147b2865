-- Rows carry a checksum; damaged rows are kept aside; rows of the log name the start of the daemon that wrote them.
-- Statistics make plans depend on what a table once had.
DROP TABLE IF EXISTS sqlite_stat1;
DROP TABLE IF EXISTS sqlite_stat4;

ALTER TABLE state ADD COLUMN checksum INTEGER;
UPDATE state SET checksum = row_checksum(id, pruned_through);

-- Which start of the daemon wrote the rows of the log from `first_row` on; NULL for those of version 2 and before.
CREATE TABLE starts (
    first_row INTEGER PRIMARY KEY,
    id TEXT,
    checksum INTEGER
) STRICT;
INSERT INTO starts VALUES (0, NULL, row_checksum(0, NULL));

-- A row number beside the key: a damaged key makes one row unreadable, not the order of all rows.
CREATE TABLE watches_3 (
    row INTEGER PRIMARY KEY,
    project TEXT NOT NULL,
    operation TEXT NOT NULL,
    state TEXT NOT NULL,
    saved INTEGER NOT NULL,
    -- When it left the watch list; NULL while it is listed.
    unlisted INTEGER,
    checksum INTEGER
) STRICT;
INSERT INTO watches_3 (project, operation, state, saved, unlisted, checksum)
    SELECT project, operation, state, saved, unlisted, row_checksum(project, operation, state, saved, unlisted)
    FROM watches;
DROP TABLE watches;
ALTER TABLE watches_3 RENAME TO watches;
CREATE UNIQUE INDEX watches_key ON watches (project, operation);
CREATE INDEX watches_unlisted ON watches (unlisted) WHERE unlisted IS NOT NULL;

CREATE TABLE projects_3 (
    row INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    saved INTEGER NOT NULL,
    checksum INTEGER
) STRICT;
INSERT INTO projects_3 (name, state, saved, checksum)
    SELECT name, state, saved, row_checksum(name, state, saved) FROM projects;
DROP TABLE projects;
ALTER TABLE projects_3 RENAME TO projects;

ALTER TABLE events ADD COLUMN checksum INTEGER;
UPDATE events SET checksum = row_checksum(row, id, type, project, operation, time, recorded, body);

ALTER TABLE endpoints ADD COLUMN checksum INTEGER;
UPDATE endpoints SET checksum = row_checksum(id, name);

ALTER TABLE deliveries ADD COLUMN checksum INTEGER;
UPDATE deliveries SET checksum = row_checksum(id, endpoint, event, subject, progress, replay, recorded,
    state, head, due, attempts, first_attempt, last_attempt, settled, error);

-- Damaged rows, as they were found.
CREATE TABLE damaged_rows (
    id INTEGER PRIMARY KEY,
    found INTEGER NOT NULL,
    -- The table and the number of the row there.
    source TEXT NOT NULL,
    row INTEGER NOT NULL,
    -- Of an event, project/operation.
    subject TEXT,
    -- The columns as SQL literals.
    content TEXT NOT NULL
) STRICT;
CREATE INDEX damaged_rows_subject ON damaged_rows (subject, row);
CREATE INDEX damaged_rows_found ON damaged_rows (found);
