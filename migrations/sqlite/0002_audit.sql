-- Who changed what, when, from where: a row for each change, written in the change's own transaction. Rows outlive what
-- they are about, so that nothing here refers to another table. No secret is in them, and no text of a caller's but names.

CREATE TABLE audit (
    -- Never used twice, also when all rows are gone.
    sequence    INTEGER PRIMARY KEY AUTOINCREMENT,
    at          INTEGER NOT NULL,
    -- A word of `AuditAction` (src/workspace/audit.rs). Not checked here: a new word would need a new table.
    action      TEXT NOT NULL,
    target_kind TEXT NOT NULL CHECK (target_kind IN ('workspace', 'signing_key', 'service', 'principal')),
    target      TEXT NOT NULL,
    service_uid TEXT,
    -- `local` without a role: the process itself, or somebody with its data directory.
    principal   TEXT NOT NULL,
    role        TEXT CHECK (role IN ('reader', 'contributor', 'owner', 'gate')),
    -- Address and port, `unix` or `local`.
    remote      TEXT NOT NULL,
    request_id  TEXT,
    -- That the change made; null where gates do not hear of it.
    epoch       INTEGER,
    revision    INTEGER,
    -- An object.
    details     TEXT NOT NULL,
    CHECK ((service_uid IS NULL) = (target_kind <> 'service')),
    CHECK ((epoch IS NULL) = (revision IS NULL))
) STRICT;

CREATE INDEX audit_by_time ON audit (at);
CREATE INDEX audit_by_target ON audit (target);
CREATE INDEX audit_by_service ON audit (service_uid) WHERE service_uid IS NOT NULL;
CREATE INDEX audit_by_principal ON audit (principal);
