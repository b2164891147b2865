-- A state as version 4 wrote it, dumped with sqlite3. Never changed once that version is released.
PRAGMA foreign_keys = OFF;
BEGIN TRANSACTION;
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
, last_attempt INTEGER, checksum INTEGER) STRICT;
INSERT INTO "deliveries" VALUES(1,1,1,'my-project/op-1',2,0,0,0,1795469636945,0,1,1795469636947,'400 Bad Request',1795469636947,1795469636947,2522695722);
INSERT INTO "deliveries" VALUES(2,1,2,'my-project/op-1',0,1,1,0,1795469636945,0,0,NULL,NULL,NULL,NULL,2915933841);
INSERT INTO "deliveries" VALUES(3,1,3,'my-project/op-1',0,0,0,0,1795469636945,0,0,NULL,NULL,NULL,NULL,3690774181);
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
, checksum INTEGER) STRICT;
INSERT INTO "endpoints" VALUES(1,'crm-sync','operation.started operation.progress operation.stalled operation.resumed operation.retried operation.succeeded operation.failed operation.ended operation.gone operation.expired operation.unreachable operation.reachable api.unreachable api.reachable api.credentials_rejected api.credentials_accepted',1000000,NULL,2,1,NULL,'400 Bad Request',1795469636947,701715213);
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
, checksum INTEGER) STRICT;
INSERT INTO "events" VALUES(1,'evt_0e98d1df720d86c88834681a414fb22e','operation.started','my-project','op-1',1795469636944,1795469636945,'{"type":"operation.started","timestamp":"2026-11-23T21:33:56.944Z","data":{"project":"my-project","projectId":"project-456","operationId":"op-1","installationId":"n","integrationId":"i","objects":["contact"],"status":"in_progress","phase":"running","sequence":1,"progress":{"recordsProcessed":1000,"recordsEstimatedTotal":5000,"percent":20.0,"estimateExceeded":false},"labels":{"customer":"acme"},"createTime":"2026-11-23T11:48:35Z","observedTime":"2026-11-23T21:33:56.944Z"}}',1542594774);
INSERT INTO "events" VALUES(2,'evt_0d7edc0a781409ad6c846bd4f460bfc3','operation.progress','my-project','op-1',1795469636944,1795469636945,'{"type":"operation.progress","timestamp":"2026-11-23T21:33:56.944Z","data":{"project":"my-project","projectId":"project-456","operationId":"op-1","installationId":"n","integrationId":"i","objects":["contact"],"status":"in_progress","phase":"running","sequence":2,"progress":{"recordsProcessed":1000,"recordsEstimatedTotal":5000,"percent":20.0,"estimateExceeded":false},"labels":{"customer":"acme"},"createTime":"2026-11-23T11:48:35Z","observedTime":"2026-11-23T21:33:56.944Z"}}',2558588792);
INSERT INTO "events" VALUES(3,'evt_a399cb4d1b3e211564ed1385718b8041','operation.retried','my-project','op-1',1795469636945,1795469636945,'{"type":"operation.retried","timestamp":"2026-11-23T21:33:56.945Z","data":{"project":"my-project","projectId":"project-456","operationId":"op-1","installationId":"n","integrationId":"i","objects":["contact"],"status":"in_progress","previousStatus":"in_progress","phase":"running","sequence":3,"progress":{"recordsProcessed":1100,"recordsEstimatedTotal":5000,"percent":22.0,"recordsPerSecond":50.0,"estimatedEndTime":"2026-11-23T21:35:14Z","estimateExceeded":false},"labels":{"customer":"acme"},"createTime":"2026-11-23T11:48:35Z","observedTime":"2026-11-23T21:33:56.945Z","retry":{"attempts":1}}}',1975961515);
CREATE TABLE groups (
    row INTEGER PRIMARY KEY,
    project TEXT NOT NULL,
    -- A hash of the label that the group has in common.
    group_id INTEGER NOT NULL,
    state TEXT NOT NULL,
    saved INTEGER NOT NULL,
    checksum INTEGER
) STRICT;
INSERT INTO "groups" VALUES(1,'my-project',-3698987175229729151,'{"completed":1}',1795469636947,1065596719);
CREATE TABLE installations (
    row INTEGER PRIMARY KEY,
    project TEXT NOT NULL,
    installation TEXT NOT NULL,
    state TEXT NOT NULL,
    saved INTEGER NOT NULL,
    checksum INTEGER
) STRICT;
INSERT INTO "installations" VALUES(1,'my-project','n','{"integration":"i","group":"acme","first_seen":"2026-11-23T12:00:00Z","objects":{"contact":{"fingerprint":18446744073709551615,"changed":"2026-11-23T12:00:00Z","operation":"op-1"}}}',1795469636947,3981348059);
CREATE TABLE "projects" (
    row INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    saved INTEGER NOT NULL,
    checksum INTEGER
) STRICT;
INSERT INTO "projects" VALUES(1,'my-project','{"known":false,"unreachable":null,"rejected":null,"probes":0}',1795469636946,3962461079);
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
INSERT INTO "source_entries" VALUES(1,'my-project','op-1','api','{"labels":[["customer","acme"]],"deadline":"1h 30m"}',1795469636947,NULL,3785391468);
INSERT INTO "source_entries" VALUES(2,'my-project','op-2','api','{"labels":[["customer","acme"]],"deadline":"1h 30m"}',1795469636947,1795469636948,1381620795);
INSERT INTO "source_entries" VALUES(3,'my-project','op-1','discovery','{"labels":[["customer","acme"]],"deadline":"1h 30m"}',1795469636947,NULL,3112020659);
CREATE TABLE starts (
    first_row INTEGER PRIMARY KEY,
    id TEXT,
    checksum INTEGER
) STRICT;
INSERT INTO "starts" VALUES(0,NULL,1694141202);
CREATE TABLE state (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    -- Names this state in cursors.
    id TEXT NOT NULL,
    -- The last event that was removed from the log; some before it may still be there.
    pruned_through INTEGER NOT NULL DEFAULT 0,
    -- Written to learn whether the state can be written again.
    probed INTEGER NOT NULL DEFAULT 0
, checksum INTEGER) STRICT;
INSERT INTO "state" VALUES(1,'5da322f62fa191ef',0,0,1019590369);
CREATE TABLE "watches" (
    row INTEGER PRIMARY KEY,
    project TEXT NOT NULL,
    operation TEXT NOT NULL,
    state TEXT NOT NULL,
    saved INTEGER NOT NULL,
    -- When it left the watch list; NULL while it is listed.
    unlisted INTEGER,
    checksum INTEGER
) STRICT;
INSERT INTO "watches" VALUES(1,'my-project','op-1','{"phase":"running","sequence":3,"generation":0,"polls":4,"watched":{"secs":8,"nanos":0},"first_seen":"2026-11-23T21:33:56.944904181Z","last_poll":"2026-11-23T21:33:56.945095588Z","next_poll":"2026-11-23T21:34:01.445095588Z","last_error":"404","facts":{"project_id":"project-456","installation_id":"n","integration_id":"i","objects":["contact"],"status":"in_progress","create_time":"2026-11-23T11:48:35Z","result":null},"attempts":1,"progress":{"processed":1100,"total":5000,"records":100.0,"seconds":2.0,"restarts":0,"unchanged":{"secs":0,"nanos":0},"stalled_at":[0,0],"told_ago":{"secs":6,"nanos":0},"told_step":2,"told_count":1000},"schedule":{"interval":{"secs":6,"nanos":750000000},"failures":0,"seen":3,"overdue":false},"missing":{"since":"2026-11-23T21:33:56.945095588Z","lasted":{"secs":0,"nanos":0},"polls":1},"trouble":{"since":"2026-11-23T21:33:56.945093996Z","lasted":{"secs":2,"nanos":0},"polls":1},"unreachable":null}',1795469636945,NULL,2182584552);
CREATE INDEX events_operation ON events (operation);
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
CREATE INDEX deliveries_tried ON deliveries (endpoint, last_attempt, id) WHERE head = 1 AND last_attempt IS NOT NULL;
CREATE UNIQUE INDEX watches_key ON watches (project, operation);
CREATE INDEX watches_unlisted ON watches (unlisted) WHERE unlisted IS NOT NULL;
CREATE INDEX damaged_rows_subject ON damaged_rows (subject, row);
CREATE INDEX damaged_rows_found ON damaged_rows (found);
CREATE UNIQUE INDEX source_entries_key ON source_entries (project, operation, source);
CREATE INDEX source_entries_project ON source_entries (project) WHERE withdrawn IS NULL;
CREATE INDEX source_entries_withdrawn ON source_entries (withdrawn) WHERE withdrawn IS NOT NULL;
CREATE UNIQUE INDEX installations_key ON installations (project, installation);
CREATE INDEX installations_project ON installations (project);
CREATE UNIQUE INDEX groups_key ON groups (project, group_id);
CREATE INDEX groups_project ON groups (project);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('events',3);
INSERT INTO "sqlite_sequence" VALUES('deliveries',3);
COMMIT;
PRAGMA application_id = 1114003316;
PRAGMA user_version = 4;
