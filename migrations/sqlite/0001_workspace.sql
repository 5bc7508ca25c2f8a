-- One workspace per database. Times are Unix milliseconds, lists and maps are JSON.
-- `sealed` columns hold secrets encrypted by the keyring (src/workspace/keyring.rs); nothing else here is secret.

CREATE TABLE workspace (
    singleton        INTEGER PRIMARY KEY CHECK (singleton = 1),
    id               TEXT NOT NULL,
    epoch            INTEGER NOT NULL CHECK (epoch > 0),
    -- Of the last change. Incremented first in each transaction that changes policy.
    revision         INTEGER NOT NULL CHECK (revision >= 0),
    issuer           TEXT NOT NULL,
    pepper_id        TEXT NOT NULL,
    -- A known text, sealed: tells whether the right master key is here before anything is written.
    master_key_check BLOB NOT NULL,
    created_at       INTEGER NOT NULL
) STRICT;

CREATE TABLE services (
    uid               TEXT PRIMARY KEY,
    name              TEXT NOT NULL UNIQUE,
    compute_type      TEXT NOT NULL CHECK (compute_type IN ('AKS', 'ACI')),
    auth_mode         TEXT NOT NULL CHECK (auth_mode IN ('disabled', 'key', 'token')),
    tokens_not_before INTEGER NOT NULL,
    description       TEXT,
    tags              TEXT NOT NULL,
    properties        TEXT NOT NULL,
    hosts             TEXT NOT NULL,
    path_prefixes     TEXT NOT NULL,
    attributes        TEXT NOT NULL,
    created_at        INTEGER NOT NULL,
    updated_at        INTEGER NOT NULL,
    revision          INTEGER NOT NULL,
    CHECK (NOT (compute_type = 'ACI' AND auth_mode = 'token'))
) STRICT, WITHOUT ROWID;

CREATE INDEX services_by_creation ON services (created_at, uid);
CREATE INDEX services_by_update ON services (updated_at, uid);

CREATE TABLE service_keys (
    service_uid   TEXT PRIMARY KEY REFERENCES services (uid) ON DELETE CASCADE,
    master_key_id TEXT NOT NULL,
    sealed        BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Where gates find a service when Envoy cannot name it. A place belongs to one service.
CREATE TABLE places (
    host        TEXT NOT NULL,
    prefix      TEXT NOT NULL,
    service_uid TEXT NOT NULL REFERENCES services (uid) ON DELETE CASCADE,
    PRIMARY KEY (host, prefix)
) STRICT, WITHOUT ROWID;

CREATE INDEX places_by_service ON places (service_uid);

CREATE TABLE signing_keys (
    kid           TEXT PRIMARY KEY,
    algorithm     TEXT NOT NULL CHECK (algorithm IN ('ES256', 'RS256', 'EdDSA')),
    -- The public half.
    jwk           TEXT NOT NULL,
    master_key_id TEXT NOT NULL,
    sealed        BLOB NOT NULL,
    created_at    INTEGER NOT NULL,
    revision      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE principals (
    name            TEXT PRIMARY KEY,
    role            TEXT NOT NULL CHECK (role IN ('reader', 'contributor', 'owner', 'gate')),
    -- SHA-256. Credentials are random, so that nothing slower is needed.
    credential_hash BLOB NOT NULL UNIQUE CHECK (length(credential_hash) = 32),
    created_at      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Policy as gates get it, byte for byte. A row that is deleted stays as a tombstone.
CREATE TABLE entries (
    kind     INTEGER NOT NULL,
    id       TEXT NOT NULL,
    name     TEXT NOT NULL,
    content  BLOB NOT NULL,
    -- That last changed it.
    revision INTEGER NOT NULL,
    deleted  INTEGER NOT NULL CHECK (deleted IN (0, 1)),
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;

-- Gates that have the feed open. After a restart they are waited for until they are back.
CREATE TABLE connected_gates (
    name       TEXT PRIMARY KEY,
    connection INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE operations (
    id             TEXT PRIMARY KEY,
    operation_type TEXT NOT NULL,
    state          TEXT NOT NULL CHECK (state IN ('Running', 'Succeeded', 'TimedOut')),
    error          TEXT,
    service        TEXT NOT NULL,
    revision       INTEGER NOT NULL,
    -- What was done, in words.
    effect         TEXT NOT NULL,
    -- The gates that were connected when it was committed.
    waiting_for    TEXT NOT NULL,
    created_at     INTEGER NOT NULL,
    ended_at       INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX operations_by_creation ON operations (created_at);
CREATE INDEX operations_running ON operations (created_at) WHERE state = 'Running';
