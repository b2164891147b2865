-- What the HTTP API and discovery ask for, the installations that discovery knows, and the rounds of groups.
CREATE TABLE source_entries (
    row INTEGER PRIMARY KEY,
    project TEXT NOT NULL,
    operation TEXT NOT NULL,
    -- api or discovery.
    source TEXT NOT NULL,
    terms TEXT NOT NULL,
    -- When the source asked last.
    since INTEGER NOT NULL,
    -- When the source stopped to ask; NULL while it does.
    withdrawn INTEGER,
    checksum INTEGER
) STRICT;
CREATE UNIQUE INDEX source_entries_key ON source_entries (project, operation, source);
CREATE INDEX source_entries_project ON source_entries (project) WHERE withdrawn IS NULL;
CREATE INDEX source_entries_withdrawn ON source_entries (withdrawn) WHERE withdrawn IS NOT NULL;

CREATE TABLE installations (
    row INTEGER PRIMARY KEY,
    project TEXT NOT NULL,
    installation TEXT NOT NULL,
    state TEXT NOT NULL,
    saved INTEGER NOT NULL,
    checksum INTEGER
) STRICT;
CREATE UNIQUE INDEX installations_key ON installations (project, installation);
CREATE INDEX installations_project ON installations (project);

CREATE TABLE groups (
    row INTEGER PRIMARY KEY,
    project TEXT NOT NULL,
    -- A hash of the label that the group has in common.
    group_id INTEGER NOT NULL,
    state TEXT NOT NULL,
    saved INTEGER NOT NULL,
    checksum INTEGER
) STRICT;
CREATE UNIQUE INDEX groups_key ON groups (project, group_id);
CREATE INDEX groups_project ON groups (project);
