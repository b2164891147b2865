-- Version 1 of the state. Times are milliseconds since 1970 in UTC. A step that was released never changes again.

CREATE TABLE state (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    -- Names this state in cursors.
    id TEXT NOT NULL,
    -- The last event that was removed from the log; some before it may still be there.
    pruned_through INTEGER NOT NULL DEFAULT 0,
    -- Written to learn whether the state can be written again.
    probed INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO state (one, id) VALUES (1, lower(hex(randomblob(8))));

CREATE TABLE watches (
    project TEXT NOT NULL,
    operation TEXT NOT NULL,
    state TEXT NOT NULL,
    saved INTEGER NOT NULL,
    -- When it left the watch list; NULL while it is listed.
    unlisted INTEGER,
    PRIMARY KEY (project, operation)
) STRICT, WITHOUT ROWID;
CREATE INDEX watches_unlisted ON watches (unlisted) WHERE unlisted IS NOT NULL;

CREATE TABLE projects (
    name TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    saved INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    -- Never used twice, so that a cursor never comes to mean another event.
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    type TEXT NOT NULL,
    project TEXT NOT NULL,
    -- NULL for facts about the API.
    operation TEXT,
    time INTEGER NOT NULL,
    recorded INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX events_operation ON events (operation);

CREATE TABLE endpoints (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    -- Names of the event types it wants, one space between.
    types TEXT NOT NULL,
    max_backlog INTEGER NOT NULL,
    -- When it left the settings; NULL while it is there.
    removed INTEGER,
    -- Kept by triggers: counting a million rows at each commit would be slow.
    backlog INTEGER NOT NULL DEFAULT 0,
    dead_letters INTEGER NOT NULL DEFAULT 0,
    last_success INTEGER,
    last_error TEXT,
    last_error_time INTEGER
) STRICT;

CREATE TABLE deliveries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    endpoint INTEGER NOT NULL REFERENCES endpoints (id) ON DELETE CASCADE,
    event INTEGER NOT NULL REFERENCES events (row) ON DELETE CASCADE,
    -- What is kept in order: project/operation, or project/ for facts about the API.
    subject TEXT NOT NULL,
    -- 0 waiting, 1 delivered, 2 dead letter, 3 dropped (superseded)
    state INTEGER NOT NULL DEFAULT 0 CHECK (state BETWEEN 0 AND 3),
    -- Whether it is the first that waits of its endpoint and subject: the only one that may be sent.
    head INTEGER NOT NULL CHECK (head = 0 OR state = 0),
    progress INTEGER NOT NULL,
    replay INTEGER NOT NULL,
    recorded INTEGER NOT NULL,
    -- Not to be sent before; 0 for at once.
    due INTEGER NOT NULL DEFAULT 0,
    -- Attempts that count towards giving up.
    attempts INTEGER NOT NULL DEFAULT 0,
    first_attempt INTEGER,
    error TEXT,
    settled INTEGER
) STRICT;
CREATE INDEX deliveries_event ON deliveries (event);
CREATE INDEX deliveries_subject ON deliveries (endpoint, subject, id) WHERE state = 0;
CREATE INDEX deliveries_age ON deliveries (endpoint, progress, id) WHERE state = 0;
CREATE INDEX deliveries_head ON deliveries (endpoint, due, id) WHERE head = 1;
CREATE INDEX deliveries_dead ON deliveries (endpoint, id) WHERE state = 2;
CREATE INDEX deliveries_settled ON deliveries (state, settled) WHERE settled IS NOT NULL;

CREATE TRIGGER deliveries_inserted AFTER INSERT ON deliveries BEGIN
    UPDATE endpoints SET backlog = backlog + (NEW.state = 0), dead_letters = dead_letters + (NEW.state = 2)
    WHERE id = NEW.endpoint;
END;
CREATE TRIGGER deliveries_deleted AFTER DELETE ON deliveries WHEN OLD.state IN (0, 2) BEGIN
    UPDATE endpoints SET backlog = backlog - (OLD.state = 0), dead_letters = dead_letters - (OLD.state = 2)
    WHERE id = OLD.endpoint;
END;
CREATE TRIGGER deliveries_updated AFTER UPDATE OF state ON deliveries WHEN OLD.state <> NEW.state BEGIN
    UPDATE endpoints SET backlog = backlog + (NEW.state = 0) - (OLD.state = 0),
        dead_letters = dead_letters + (NEW.state = 2) - (OLD.state = 2)
    WHERE id = NEW.endpoint;
END;
