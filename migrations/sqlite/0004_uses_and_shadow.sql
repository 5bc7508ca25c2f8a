-- Until when refused credentials of a service are let through, and counted; null for never.
ALTER TABLE services ADD COLUMN shadow_until INTEGER;

-- How often a credential was accepted, and when last, as gates report it. A row of a key is of one key value: the
-- fingerprint is the beginning of its digest. Rows are written a minute late, and all of them at once.
CREATE TABLE credential_uses (
    service_uid TEXT NOT NULL REFERENCES services (uid) ON DELETE CASCADE,
    credential  TEXT NOT NULL CHECK (credential IN ('primary', 'secondary', 'token')),
    -- Null for tokens.
    fingerprint BLOB CHECK (length(fingerprint) = 8),
    uses        INTEGER NOT NULL,
    -- In Unix seconds, by the clock of the gate that said so, and never after the workspace's.
    last_used   INTEGER NOT NULL,
    PRIMARY KEY (service_uid, credential),
    CHECK ((fingerprint IS NULL) = (credential = 'token'))
) STRICT, WITHOUT ROWID;
